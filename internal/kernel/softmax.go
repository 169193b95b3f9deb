package kernel

import "math"

// Softmax is dst[o,:,i] = exp(x[o,:,i] - max) / Σ (ONNX Softmax): x and dst
// [outer,axis,inner], f32; the sum is taken along axis, in order, in float64. A
// NaN or +Inf among x, or -Inf alone, makes all of its line NaN. dst may be x.
func Softmax(dst, x []float32, outer, axis, inner int) {
	need("dst", len(dst), outer*axis*inner)
	need("x", len(x), outer*axis*inner)
	for o := range outer {
		if inner == 1 {
			softmaxLine(dst[o*axis:(o+1)*axis], x[o*axis:(o+1)*axis])
			continue
		}
		for i := range inner {
			first, end := o*axis*inner+i, (o+1)*axis*inner
			most := float32(math.Inf(-1))
			for at := first; at < end; at += inner {
				most = max(most, x[at])
			}
			var sum float64
			for at := first; at < end; at += inner {
				e := expNonPositive(x[at] - most)
				dst[at] = e
				sum += float64(e)
			}
			for at := first; at < end; at += inner {
				dst[at] = float32(float64(dst[at]) / sum)
			}
		}
	}
}

// softmaxLine is Softmax of one line whose elements lie side by side.
func softmaxLine(dst, x []float32) {
	most := float32(math.Inf(-1))
	for _, v := range x {
		most = max(most, v)
	}
	vecExp(dst, x, most)
	var sum float64
	for _, e := range dst {
		sum += float64(e)
	}
	for i, e := range dst {
		dst[i] = float32(float64(e) / sum)
	}
}

// expNonPositive is exp(x) for x ≤ 0 and NaN, within 1 unit in the last place
// (its test says so for every float32), with the same bits on every CPU.
//
// With n = round(x/ln 2) and r = x - n·ln 2, |r| ≤ ln 2 / 2, it is 2ⁿ times the
// Taylor polynomial of degree 7 of exp(r) (remainder < 2⁻²⁷). ln 2 is split in
// two (Cody and Waite, 1980): the product of n and the upper part is exact.
func expNonPositive(x float32) float32 {
	const (
		ln2Upper = 0x1.62e4p-1           // 15 bits
		ln2Lower = 0x1.7f7d1cf79abcap-20 // ln 2 - ln2Upper
		shift    = 1.5 * (1 << 23)       // adding it rounds to an integer
	)
	if x < -104 { // below half the smallest subnormal
		return 0
	}
	n := fma32(x, 1/math.Ln2, shift) - shift
	r := fma32(n, -ln2Upper, x)
	r = fma32(n, -ln2Lower, r)
	y := float32(1.0 / 5040)
	y = fma32(y, r, 1.0/720)
	y = fma32(y, r, 1.0/120)
	y = fma32(y, r, 1.0/24)
	y = fma32(y, r, 1.0/6)
	y = fma32(y, r, 0.5)
	y = fma32(y, r, 1)
	y = fma32(y, r, 1)
	if y != y {
		return y
	}
	// 2ⁿ in two factors, as n reaches below the normal range; only the last
	// product rounds.
	half := int32(n) >> 1
	return float32(y*power2(half)) * power2(int32(n)-half)
}

// power2 is 2ⁿ for n in the normal range.
func power2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }
