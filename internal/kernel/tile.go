package kernel

// A tiling says how a level cuts a product. A tile is m rows of A by n columns
// of B; blockK, blockM and blockN bound the operands that are in cache at one
// time: a B panel of blockK × n in L1, an A block of blockM × blockK or a B
// block of blockK × blockN in L2. blockM and blockN are multiples of m and n.
// Where a tile does not fill, rowStep rows and columnStep columns of it are the
// least that is computed. None of it says anything about bits. What is packed
// keeps the tiling of the level that it was packed for.
type tiling struct {
	m, n                   int
	rowStep, columnStep    int
	blockK, blockM, blockN int
	handOver               int // multiply-adds of a thread in the time that another takes to begin and end
}

// maxTileN is the most columns in a tile.
const maxTileN = 32

// tiles6x16 has 16 KiB of B in L1, and 192 KiB of A and 256 KiB of B in L2.
var tiles6x16 = tiling{m: 6, n: 16, rowStep: 6, columnStep: 16, blockK: 256, blockM: 32 * 6, blockN: 16 * 16, handOver: 1 << 16}

// kBlock returns the length of the K blocks: blockK at most, and even.
func (t *tiling) kBlock(k int) int { return ceilDiv(k, ceilDiv(k, t.blockK)) }

// high and wide round up to whole tiles.
func (t *tiling) high(m int) int { return ceilDiv(m, t.m) * t.m }
func (t *tiling) wide(n int) int { return ceilDiv(n, t.n) * t.n }

// multiply is c[m,n] = or += a·b for packed operands: a [m/t.m][kc][t.m], b
// [n/t.n][kc][t.n], rounded up, rows of c ldc apart. Then end follows. What is
// read after this, if anything, is fetched meanwhile from ahead.
func (t *tiling) multiply(c []float32, ldc int, a, b []float32, m, n, kc int, first bool, end ending, ahead []float32) {
	share := len(ahead) / ceilDiv(n, t.n)
	for j := 0; j < n; j += t.n {
		bp, cols := b[j*kc:(j+t.n)*kc], min(t.n, n-j)
		next := ahead[j/t.n*share:]
		for i := gemmTiles(t, c[j:], ldc, a, bp, m, cols, kc, first, end.from(0, j), next); i < m; i += t.m {
			rows := min(t.m, m-i)
			at := i*ldc + j
			t.edge(c[at:], ldc, a[i*kc:(i+t.m)*kc], bp, rows, cols, kc, first)
			end.from(i, at).apply(c[at:], ldc, rows, cols)
		}
	}
}

// edge computes a tile of which only m × n elements exist in c, whole, beside c.
func (t *tiling) edge(c []float32, ldc int, a, b []float32, m, n, kc int, first bool) {
	var whole [maxTile]float32
	tile := whole[:t.m*t.n]
	if !first {
		for i := range m {
			copy(tile[i*t.n:i*t.n+n], c[i*ldc:])
		}
	}
	gemmTiles(t, tile, t.n, a, b, t.m, t.n, kc, first, ending{}, nil)
	for i := range m {
		copy(c[i*ldc:i*ldc+n], tile[i*t.n:])
	}
}

// maxTile is the most elements in a tile.
const maxTile = 12 * maxTileN

// packRows packs k columns of m rows of x, ldx apart, into A panels
// [m/t.m][k][t.m]; rows past m are zero.
func (t *tiling) packRows(dst, x []float32, ldx, m, k int) {
	for i := 0; i < m; i += t.m {
		d := dst[i*k : (i+t.m)*k]
		if m-i < t.m {
			clear(d)
			interleavePortable(d, x[i*ldx:], ldx, m-i, t.m, k)
			continue
		}
		interleave(d, x[i*ldx:], ldx, t.m, k)
	}
}

// packFilters packs a whole matrix [rows,k] into A panels by K blocks:
// packed [K blocks][rows/t.m][kc][t.m].
func (t *tiling) packFilters(packed, w []float32, rows, k int) {
	step, high := t.kBlock(k), t.high(rows)
	for k0 := 0; k0 < k; k0 += step {
		t.packRows(packed[high*k0:], w[k0:], k, rows, min(step, k-k0))
	}
}

// packColumns packs a whole matrix [columns,k] into B panels by K blocks: packed
// [K blocks][columns/t.n][kc][t.n], zeroed before.
func (t *tiling) packColumns(packed, w []float32, columns, k int) {
	step, wide := t.kBlock(max(1, k)), t.wide(columns)
	for k0 := 0; k0 < k; k0 += step {
		kc := min(step, k-k0)
		for r := 0; r < columns; r += t.n {
			interleavePortable(packed[wide*k0+r*kc:], w[r*k+k0:], k, min(t.n, columns-r), t.n, kc)
		}
	}
}
