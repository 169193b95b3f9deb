package main

import "math"

// maxR is the most parity rows.
const maxR = 4

// small is a matrix of at most 2·maxR rows and columns.
type small [2 * maxR][2 * maxR]float64

// patterns calls visit with every set of m of n things, in ascending order,
// until it is false.
func patterns(n, m int, visit func(set []int) bool) bool {
	var set [maxR]int
	for i := range m {
		set[i] = i
	}
	for {
		if !visit(set[:m]) {
			return false
		}
		i := m - 1
		for i >= 0 && set[i] == n-m+i {
			i--
		}
		if i < 0 {
			return true
		}
		set[i]++
		for j := i + 1; j < m; j++ {
			set[j] = set[j-1] + 1
		}
	}
}

// gram is G·Gᵀ.
func gram(g [][]float64) (out [maxR][maxR]float64) {
	for a := range g {
		for b := range g {
			for j := range g[a] {
				out[a][b] += g[a][j] * g[b][j]
			}
		}
	}
	return out
}

// above is an upper bound of condition, quick to compute. With the lost data
// columns C [m×m] of the m parity rows used and B the others, the survivors'
// matrix is A = [I 0; B C], and its inverse [I 0; −C⁻¹B C⁻¹]; so
// ‖A‖² ≤ 1 + ‖[B C]‖² and ‖A⁻¹‖² ≤ 1 + tr(C⁻¹(I + BBᵀ)C⁻ᵀ).
func above(g [][]float64, gg *[maxR][maxR]float64, rows, lost []int) float64 {
	m := len(rows)
	var c, inv [maxR][maxR]float64
	for a, r := range rows {
		for b, j := range lost {
			c[a][b] = g[r][j]
		}
	}
	if !invert(&c, &inv, m) {
		return math.Inf(1)
	}
	norm := 1.0
	for _, r := range rows {
		norm += gg[r][r]
	}
	// tr(C⁻¹(I+GGᵀ)C⁻ᵀ) − m, since BBᵀ = GGᵀ − CCᵀ.
	back := 1 - float64(m)
	for i := range m {
		for a := range m {
			for b := range m {
				e := gg[rows[a]][rows[b]]
				if a == b {
					e++
				}
				back += inv[i][a] * e * inv[i][b]
			}
		}
	}
	return math.Sqrt(norm * back)
}

// invert is Gauss-Jordan with partial pivoting.
func invert(c, inv *[maxR][maxR]float64, m int) bool {
	a := *c
	*inv = [maxR][maxR]float64{}
	for i := range m {
		inv[i][i] = 1
	}
	for col := range m {
		p := col
		for i := col + 1; i < m; i++ {
			if math.Abs(a[i][col]) > math.Abs(a[p][col]) {
				p = i
			}
		}
		if math.Abs(a[p][col]) < 1e-12 {
			return false
		}
		a[p], a[col] = a[col], a[p]
		inv[p], inv[col] = inv[col], inv[p]
		d := 1 / a[col][col]
		for j := range m {
			a[col][j] *= d
			inv[col][j] *= d
		}
		for i := range m {
			if i == col || a[i][col] == 0 {
				continue
			}
			f := a[i][col]
			for j := range m {
				a[i][j] -= f * a[col][j]
				inv[i][j] -= f * inv[col][j]
			}
		}
	}
	return true
}

// condition is the 2-norm condition number of the survivors' matrix A. All
// its singular values are 1 but those of [I 0; L C], 2m×2m, with L the
// Cholesky factor of BBᵀ; for the eigenvalues of AAᵀ = [I Bᵀ; B BBᵀ+CCᵀ]
// depend on B through BBᵀ alone.
func condition(gg *[maxR][maxR]float64, g [][]float64, rows, lost []int) float64 {
	m := len(rows)
	var bb, l [maxR][maxR]float64
	for a := range m {
		for b := range m {
			bb[a][b] = gg[rows[a]][rows[b]]
			for _, j := range lost {
				bb[a][b] -= g[rows[a]][j] * g[rows[b]][j]
			}
		}
	}
	for i := range m {
		for j := 0; j <= i; j++ {
			s := bb[i][j]
			for k := range j {
				s -= l[i][k] * l[j][k]
			}
			switch {
			case i == j:
				l[i][i] = math.Sqrt(max(s, 0))
			case l[j][j] > 1e-9:
				l[i][j] = s / l[j][j]
			}
		}
	}
	// AAᵀ of the small matrix: [I Lᵀ; L GGᵀ restricted to the rows].
	var e small
	for i := range m {
		e[i][i] = 1
		for j := range m {
			e[m+i][j], e[j][m+i] = l[i][j], l[i][j]
			e[m+i][m+j] = gg[rows[i]][rows[j]]
		}
	}
	lo, hi := eigen(&e, 2*m)
	if lo <= 0 {
		return math.Inf(1)
	}
	return math.Sqrt(hi / lo)
}

// eigen gives the least and the greatest eigenvalue of a symmetric matrix, by
// Jacobi's rotations (Golub and Van Loan, section 8.5).
func eigen(a *small, n int) (lo, hi float64) {
	for range 30 {
		off, all := 0.0, 0.0
		for i := range n {
			for j := range n {
				all += a[i][j] * a[i][j]
				if i != j {
					off += a[i][j] * a[i][j]
				}
			}
		}
		if off <= 1e-28*all {
			break
		}
		for p := range n {
			for q := p + 1; q < n; q++ {
				if a[p][q] == 0 {
					continue
				}
				theta := (a[q][q] - a[p][p]) / (2 * a[p][q])
				t := 1 / (math.Abs(theta) + math.Sqrt(theta*theta+1))
				if theta < 0 {
					t = -t
				}
				c := 1 / math.Sqrt(t*t+1)
				s := t * c
				for k := range n {
					x, y := a[k][p], a[k][q]
					a[k][p], a[k][q] = c*x-s*y, s*x+c*y
				}
				for k := range n {
					x, y := a[p][k], a[q][k]
					a[p][k], a[q][k] = c*x-s*y, s*x+c*y
				}
			}
		}
	}
	lo, hi = math.Inf(1), 0
	for i := range n {
		lo, hi = min(lo, a[i][i]), max(hi, a[i][i])
	}
	return lo, hi
}
