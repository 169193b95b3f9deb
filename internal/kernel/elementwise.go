package kernel

// Sub is dst -= x, elementwise, f32; x has at least len(dst) elements and may be
// dst itself but not overlap it otherwise.
func Sub(dst, x []float32) {
	need("x", len(x), len(dst))
	vecSub(dst, x)
}

// AddScaled is dst += c·x, elementwise, f32, fused: rounded once. x has at
// least len(dst) elements and must not overlap dst.
func AddScaled(dst, x []float32, c float32) {
	need("x", len(x), len(dst))
	vecAddScaled(dst, x, c)
}

// Add is dst = a + b, elementwise, f32; a and b have at least len(dst) elements.
// dst may be a or b but not overlap them otherwise.
func Add(dst, a, b []float32) {
	need("a", len(a), len(dst))
	need("b", len(b), len(dst))
	vecAdd(dst, a, b)
}

// Mul is dst = a · b, elementwise, f32; a and b have at least len(dst) elements.
// dst may be a or b but not overlap them otherwise.
func Mul(dst, a, b []float32) {
	need("a", len(a), len(dst))
	need("b", len(b), len(dst))
	vecMul(dst, a, b)
}

// Clamp is dst = min(max(x, lo), hi), elementwise, f32; NaN stays NaN, and -0
// counts as equal to a bound of +0 and stays. x has at least len(dst) elements;
// dst may be x but not overlap it otherwise.
func Clamp(dst, x []float32, lo, hi float32) {
	need("x", len(x), len(dst))
	vecClamp(dst, x, lo, hi)
}

type biasJob struct {
	dst, bias   []float32
	rows, inner int
	block       int // rows of dst, counted over outer
	lo, hi      float32
}

var biasJobs freeList[biasJob]

// biasBlock is the number of elements in a block of a threaded BiasAct.
const biasBlock = 1 << 15

// BiasAct is dst[o,r,i] = clamp(dst[o,r,i] + bias[r], lo, hi): dst
// [outer,rows,inner], bias [rows], f32. A nil bias adds nothing; lo = -Inf and
// hi = +Inf clamp nothing; NaN stays NaN. bias must not alias dst. Safe for
// concurrent use.
func BiasAct(p *Pool, dst, bias []float32, outer, rows, inner int, lo, hi float32) {
	need("dst", len(dst), outer*rows*inner)
	if bias != nil {
		need("bias", len(bias), rows)
	}
	if outer*rows*inner == 0 {
		return
	}
	j := biasJobs.get()
	*j = biasJob{dst: dst[:outer*rows*inner], bias: bias, rows: rows, inner: inner, lo: lo, hi: hi}
	if inner == 1 {
		// The bias runs along the cells: whole rows of it are added at a time.
		j.block = max(1, biasBlock/rows)
		p.run(j, ceilDiv(outer, j.block))
	} else {
		j.block = max(1, biasBlock/inner)
		p.run(j, ceilDiv(outer*rows, j.block))
	}
	*j = biasJob{}
	biasJobs.put(j)
}

func (j *biasJob) runBlock(i int) {
	length := j.inner
	if j.inner == 1 {
		length = j.rows
	}
	end := min((i+1)*j.block, len(j.dst)/length)
	if j.bias == nil {
		part := j.dst[i*j.block*length : end*length]
		vecClamp(part, part, j.lo, j.hi)
		return
	}
	for r := i * j.block; r < end; r++ {
		row := j.dst[r*length : (r+1)*length]
		if j.inner > 1 {
			vecBiasClamp(row, j.bias[r%j.rows], j.lo, j.hi)
			continue
		}
		vecAdd(row, row, j.bias)
		vecClamp(row, row, j.lo, j.hi)
	}
}
