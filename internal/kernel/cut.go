package kernel

import "math"

// A side is one side of an output that is cut into blocks: size elements, cut at
// multiples of unit. A block takes as long as if it had extra elements more, and a
// thread as if it had once more, which is what each reads or packs for itself.
type side struct{ size, unit, extra, once int }

func (s side) units() int { return ceilDiv(s.size, s.unit) }

// span is part i of n of a side, as even as units are.
func (s side) span(i, n int) (from, to int) {
	units := int64(s.units())
	from, to = int(int64(i)*units/int64(n)), int(int64(i+1)*units/int64(n))
	return from * s.unit, min(to*s.unit, s.size)
}

// late is by what part of a block threads that began together end apart.
const late = 0.05

// wider is how many numbers of blocks are tried for each way to cut the rows.
const wider = 8

// cutOutput says into how many parts to cut the rows and, at least into nLeast, the
// columns of each of maps outputs of sums of k products, so that threads are done
// soonest. To give others of their blocks takes as long as handOver multiply-adds.
func cutOutput(rows, columns side, nLeast, maps, k, threads, handOver int) (mParts, nParts int) {
	mParts, nParts = 1, nLeast
	if threads == 1 {
		return mParts, nParts
	}
	alone := float64(rows.size+rows.extra) * float64(columns.size+nLeast*columns.extra+columns.once)
	best := float64(maps) * alone * float64(k)
	for m := 1; m <= min(threads, rows.units()); m++ {
		if threads%m != 0 && m != rows.units() {
			continue
		}
		high := float64(ceilDiv(rows.units(), m)*rows.unit + rows.extra)
		each := threads / gcd(threads, m*maps) // all threads get as many blocks then
		for n, last := ceilDiv(nLeast, each)*each, nLeast+wider*each; n <= last; n += each {
			n = min(n, columns.units())
			turns := float64(ceilDiv(maps*m*n, threads))
			// Of all blocks of the busiest thread.
			wide := math.Ceil(float64(columns.units())*turns/float64(n))*float64(columns.unit) + turns*float64(columns.extra) + float64(columns.once)
			took := high*wide*float64(k)*(1+late/turns) + float64(handOver)
			if took < best {
				best, mParts, nParts = took, m, n
			}
			if n == columns.units() {
				break
			}
		}
	}
	return mParts, nParts
}

func gcd(a, b int) int {
	for b > 0 {
		a, b = b, a%b
	}
	return a
}
