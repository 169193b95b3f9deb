package kernel

import "math"

// LRN is dst = x / (bias + alpha/size · Σ x²)^beta, the sum over the size
// channels around (ONNX LRN: (size-1)/2 before, rounded down, and as many after,
// rounded up): x and dst [n,c,hw], f32, computed in float64. dst must not alias
// x. bias and alpha must not be negative.
func LRN(dst, x []float32, n, c, hw, size int, alpha, beta, bias float32) {
	need("dst", len(dst), n*c*hw)
	need("x", len(x), n*c*hw)
	scale := float64(alpha) / float64(size)
	for image := range n {
		from := image * c * hw
		for ch := range c {
			first, last := max(0, ch-(size-1)/2), min(c-1, ch+size/2)
			for i := range hw {
				var sum float64
				for at := from + first*hw + i; at <= from+last*hw+i; at += hw {
					v := float64(x[at])
					sum += float64(v * v)
				}
				at := from + ch*hw + i
				dst[at] = float32(float64(x[at]) / power(float64(bias)+float64(scale*sum), float64(beta)))
			}
		}
	}
}

// power is b^e for b ≥ 0, with the same bits on every CPU, which math.Pow does
// not promise. The exponents that networks use need only square roots, which
// IEEE 754 rounds correctly; the others are within 1e-13·(1+|e·log b|).
func power(b, e float64) float64 {
	switch {
	case e == 0.75:
		root := math.Sqrt(b)
		return root * math.Sqrt(root)
	case e == 0.5:
		return math.Sqrt(b)
	case e == 1:
		return b
	case e == 0:
		return 1
	case b == 0 || math.IsInf(b, 1) || b != b:
		return math.Pow(b, e) // exact cases: 0, Inf, NaN
	}
	return exp(float64(e * log(b)))
}

// log is the natural logarithm of a positive normal number: with b = m·2ⁿ, m in
// [√½, √2), it is n·ln 2 + 2·artanh s, s = (m-1)/(m+1), |s| < 0.172, by the
// series of artanh to s²¹ (remainder < 1e-18).
func log(b float64) float64 {
	m, n := math.Frexp(b)
	if m < math.Sqrt2/2 {
		m, n = m*2, n-1
	}
	s := (m - 1) / (m + 1)
	square := float64(s * s)
	sum := 0.0
	for k := 21; k >= 1; k -= 2 {
		sum = float64(sum*square) + 1/float64(k)
	}
	return float64(float64(n)*math.Ln2) + float64(2*s*sum)
}

// exp is e^x by e^r·2ⁿ, |r| ≤ ln 2 / 2, with the Taylor series to r¹⁴ (remainder
// < 1e-18).
func exp(x float64) float64 {
	if x > 800 || x < -800 {
		return math.Exp(x) // +Inf or 0
	}
	n := math.Floor(float64(x*(1/math.Ln2)) + 0.5)
	r := x - float64(n*math.Ln2)
	sum := 1.0
	for k := 14; k >= 1; k-- {
		sum = 1 + float64(float64(sum*r)/float64(k))
	}
	return math.Ldexp(sum, int(n))
}

// BatchNorm is dst = (x - mean)·scale/√(variance + epsilon) + bias by channel
// (ONNX BatchNormalization, inference): x and dst [n,c,hw], the others [c], f32.
// The factor is rounded to float32 once; then every operation rounds. dst may be
// x.
func BatchNorm(dst, x, scale, bias, mean, variance []float32, n, c, hw int, epsilon float32) {
	need("dst", len(dst), n*c*hw)
	need("x", len(x), n*c*hw)
	need("scale", len(scale), c)
	need("bias", len(bias), c)
	need("mean", len(mean), c)
	need("variance", len(variance), c)
	for m := range n * c {
		ch := m % c
		factor := float32(float64(scale[ch]) / math.Sqrt(float64(variance[ch])+float64(epsilon)))
		from, to := x[m*hw:(m+1)*hw], dst[m*hw:(m+1)*hw]
		for i, v := range from {
			to[i] = float32((v-mean[ch])*factor) + bias[ch]
		}
	}
}
