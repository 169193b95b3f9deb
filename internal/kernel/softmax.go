package kernel

import "math"

type softmaxJob struct {
	dst, x             []float32
	outer, axis, inner int
	lines              int // in a block, if they lie side by side
}

var softmaxJobs freeList[softmaxJob]

// softmaxBlock is the number of elements worth a block.
const softmaxBlock = 1 << 12

// Softmax is dst[o,:,i] = exp(x[o,:,i] - max) / Σ (ONNX Softmax): x and dst
// [outer,axis,inner], f32; the sum is taken along axis, in order, in float64. A
// NaN or +Inf among x, or -Inf alone, makes all of its line NaN. dst may be x.
// Safe for concurrent use.
func Softmax(p *Pool, dst, x []float32, outer, axis, inner int) {
	need("dst", len(dst), outer*axis*inner)
	need("x", len(x), outer*axis*inner)
	j := softmaxJobs.get()
	*j = softmaxJob{dst: dst, x: x, outer: outer, axis: axis, inner: inner, lines: 1}
	if inner == 1 {
		j.lines = ceilDiv(softmaxBlock, max(1, axis*summedLines)) * summedLines
	}
	p.run(j, ceilDiv(outer, j.lines))
	*j = softmaxJob{}
	softmaxJobs.put(j)
}

func (j *softmaxJob) runBlock(i int) {
	size := j.axis * j.inner
	from, to := i*j.lines, min((i+1)*j.lines, j.outer)
	dst, x := j.dst[from*size:to*size], j.x[from*size:to*size]
	if j.inner == 1 {
		softmaxLines(dst, x, j.axis)
		return
	}
	for i := range j.inner {
		most := float32(math.Inf(-1))
		for at := i; at < size; at += j.inner {
			most = max(most, x[at])
		}
		var sum float64
		for at := i; at < size; at += j.inner {
			e := expNonPositive(x[at] - most)
			dst[at] = e
			sum += float64(e)
		}
		for at := i; at < size; at += j.inner {
			dst[at] = float32(float64(dst[at]) / sum)
		}
	}
}

// summedLines is how many sums are taken side by side, since each waits for
// itself.
const summedLines = 4

// softmaxLines is Softmax of lines of axis elements, which lie side by side.
func softmaxLines(dst, x []float32, axis int) {
	for ; len(dst) >= summedLines*axis && axis > 0; dst, x = dst[summedLines*axis:], x[summedLines*axis:] {
		for l := range summedLines {
			line := x[l*axis : (l+1)*axis]
			vecExp(dst[l*axis:(l+1)*axis], line, mostOf(line))
		}
		a, b, c, d := dst[:axis], dst[axis:][:axis], dst[2*axis:][:axis], dst[3*axis:][:axis]
		var sa, sb, sc, sd float64
		for i := range a {
			sa += float64(a[i])
			sb += float64(b[i])
			sc += float64(c[i])
			sd += float64(d[i])
		}
		vecDivWide(a, sa)
		vecDivWide(b, sb)
		vecDivWide(c, sc)
		vecDivWide(d, sd)
	}
	for ; len(dst) > 0; dst, x = dst[axis:], x[axis:] {
		vecExp(dst[:axis], x[:axis], mostOf(x[:axis]))
		var sum float64
		for _, e := range dst[:axis] {
			sum += float64(e)
		}
		vecDivWide(dst[:axis], sum)
	}
}

// mostOf is the greatest of x, -Inf if there is none, NaN if one is.
func mostOf(x []float32) float32 {
	most := lanesMost(x)
	for _, v := range most[1:] {
		most[0] = max(most[0], v)
	}
	return most[0]
}

// lanesMostPortable is, in lane l, the greatest of x[l], x[l+16], …
func lanesMostPortable(x []float32) (most [16]float32) {
	for l := range most {
		most[l] = float32(math.Inf(-1))
	}
	for ; len(x) >= len(most); x = x[len(most):] {
		for l := range most {
			most[l] = max(most[l], x[l])
		}
	}
	for l, v := range x {
		most[l] = max(most[l], v)
	}
	return most
}

// vecDivWidePortable is dst /= by, divided in float64.
func vecDivWidePortable(dst []float32, by float64) {
	for i, v := range dst {
		dst[i] = float32(float64(v) / by)
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
