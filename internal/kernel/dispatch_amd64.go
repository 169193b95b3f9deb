//go:build !noasm

package kernel

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// avx2 and avx512 select the assembly twins; avx512 is never set without avx2.
var (
	avx2   = hasAVX2()
	avx512 = hasAVX512()
)

func hasAVX2() bool { return cpu.X86.HasAVX2 && cpu.X86.HasFMA }

func hasAVX512() bool {
	return hasAVX2() && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL
}

func level() string {
	switch {
	case avx512:
		return levelAVX512
	case avx2:
		return levelAVX2
	}
	return levelPortable
}

func setLevel(name string) bool {
	switch {
	case name == levelPortable:
		avx2, avx512 = false, false
	case name == levelAVX2 && hasAVX2():
		avx2, avx512 = true, false
	case name == levelAVX512 && hasAVX512():
		avx2, avx512 = true, true
	default:
		return false
	}
	return true
}

// tiles12x32 has 32 KiB of B in L1, and 192 KiB of A and 256 KiB of B in L2.
var tiles12x32 = tiling{m: 12, n: 32, rowStep: 4, columnStep: 16, blockK: 256, blockM: 16 * 12, blockN: 8 * 32, handOver: 3 << 17}

func tilesOfLevel() *tiling {
	if avx512 {
		return &tiles12x32
	}
	return &tiles6x16
}

// asInt is a bool as the assembly takes it.
func asInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// gemmTiles is gemmTilesPortable, and end, for the first rows of m, and says how
// many.
func gemmTiles(t *tiling, c []float32, ldc int, a, b []float32, m, n, kc int, first bool, end ending, ahead []float32) (rows int) {
	switch {
	case avx512 && t == &tiles12x32:
		rows = m
		if m%4 != 0 {
			rows -= m % t.m
		}
	case avx2 && t == &tiles6x16:
		if n == t.n {
			rows = m - m%t.m
		}
	default:
		gemmTilesPortable(t, c, ldc, a, b, m, n, kc, first)
		end.apply(c, ldc, m, n)
		return m
	}
	if rows == 0 {
		return 0
	}
	_ = c[(rows-1)*ldc+n-1]
	_ = a[t.high(rows)*kc-1]
	_ = b[kc*t.n-1]
	if ahead == nil {
		ahead = b // a place that exists
	}
	if t == &tiles6x16 {
		gemmTilesAVX2(&c[0], ldc, &a[0], &b[0], kc, rows/t.m, asInt(first), unsafe.SliceData(ahead))
		end.apply(c, ldc, rows, n)
		return rows
	}
	gemmTilesAVX512(&c[0], ldc, &a[0], &b[0], kc, rows, asInt(first), 1<<n-1, end.of(ldc, rows, n), unsafe.SliceData(ahead))
	return rows
}

// packsLater says whether gemmPack gains anything over packing before.
func packsLater(t *tiling) bool { return avx512 && t == &tiles12x32 }

// gemmPack is gemmPackPortable, and end, for tiles of 12×32.
func gemmPack(t *tiling, c []float32, ldc int, a, packed, x []float32, starts []int32, from *panel, first bool, end ending) {
	if !avx512 {
		gemmPackPortable(t, c, ldc, a, packed, x, starts, from, first)
		end.apply(c, ldc, t.m, t.n)
		return
	}
	kc := len(starts)
	_, _, _ = c[(t.m-1)*ldc+t.n-1], a[t.m*kc-1], packed[t.n*kc-1]
	then := end.of(ldc, t.m, t.n)
	if from.whole {
		_, _ = x[from.at], x[from.at+int(starts[kc-1])+t.n-1]
		gemmPackAVX512(&c[0], ldc, &a[0], &x[0], kc, &packed[0], asInt(first), &starts[0], then, from.at)
		return
	}
	_ = from.masks[kc-1]
	gemmPackMaskedAVX512(&c[0], ldc, &a[0], &x[0], kc, &packed[0], asInt(first), &starts[0], then, from.at, &from.masks[0])
}

func interleave(dst, x []float32, ldx, m, k int) {
	done := 0
	if avx2 && k >= 8 && m%6 == 0 {
		done = k &^ 7
		_, _ = dst[k*m-1], x[(m-1)*ldx+k-1]
		for r := 0; r < m; r += 6 {
			packSixAVX2(&dst[r], &x[r*ldx], ldx, m, done/8)
		}
	}
	interleavePortable(dst[done*m:], x[done:], ldx, m, m, k-done)
}

// laneMask[16-n:][:16] is a mask whose first n lanes are set.
var laneMask = [32]int32{
	-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
}

func gemvRows(dst, w, x []float32, rows, k int) {
	if !avx2 {
		gemvRowsPortable(dst, w, x, rows, k)
		return
	}
	if rows == 0 {
		return
	}
	_, _, _ = dst[rows-1], w[rows*k-1], x[k-1]
	if avx512 {
		gemvRowsAVX512(&dst[0], &w[0], &x[0], rows, k, 1<<(k%16)-1)
		return
	}
	gemvRowsAVX2(&dst[0], &w[0], &x[0], rows, k, &laneMask[16-k%16])
}

// packsByChannel says whether packWhole and packStripes gain anything.
func packsByChannel(width int) bool { return avx512 && width == maxTileN }

func packWhole(dst, src []float32, taps []tap, channels, plane int) {
	last := len(taps) - 1
	_, _ = dst[maxTileN*channels*len(taps)-1], src[(channels-1)*plane+int(taps[last].off)+maxTileN-1]
	packWholeAVX512(&dst[0], &src[0], &taps[0], len(taps), channels, plane)
}

func packStripes(dst, src []float32, taps []tap, channels, plane, runs int, s *stripes, mask int) {
	_, _ = dst[maxTileN*channels*len(taps)-1], s.masks[mask+2*runs*len(taps)-1]
	switch runs {
	case 1:
		packStripes1AVX512(&dst[0], &src[0], &taps[0], len(taps), channels, plane, &s.at[0], &s.masks[mask])
	case 2:
		packStripes2AVX512(&dst[0], &src[0], &taps[0], len(taps), channels, plane, &s.at[0], &s.masks[mask])
	default:
		packStripes3AVX512(&dst[0], &src[0], &taps[0], len(taps), channels, plane, &s.at[0], &s.masks[mask])
	}
}

// evenRuns says whether packEven gains anything.
func evenRuns() bool { return avx512 }

// packEven is packRun for a stride of 2. It reads twice as many cells as there
// are lanes, rounded up to 16, from the first on.
func packEven(dst, src []float32, cols *columns, taps []tap, width, h, w, step int, merge bool) {
	if !avx512 {
		packPortable(dst, src, cols, taps, width, h, w, step, merge, 2)
		return
	}
	packEvenAVX512(&dst[0], &src[0], cols, &taps[0], len(taps), width, h, w, step, asInt(merge))
}

// runsWrap says that packRun takes runs that go on in the next row of the map.
const runsWrap = true

func packRun(dst, src []float32, cols *columns, taps []tap, width, h, w, step int, merge bool) {
	switch {
	case avx512:
		packRunAVX512(&dst[0], &src[0], cols, &taps[0], len(taps), width, h, w, step, asInt(merge))
	case avx2 && width == 16:
		packRunAVX2(&dst[0], &src[0], cols, &taps[0], len(taps), h, w, step, asInt(merge))
	default:
		packPortable(dst, src, cols, taps, width, h, w, step, merge, 1)
	}
}

func packGather(dst, src []float32, cols *columns, taps []tap, width, h, w, step int) {
	switch {
	case avx512:
		packGatherAVX512(&dst[0], &src[0], cols, &taps[0], len(taps), width, h, w, step)
	case avx2 && width == 16:
		packGatherAVX2(&dst[0], &src[0], cols, &taps[0], len(taps), h, w, step)
	default:
		packPortable(dst, src, cols, taps, width, h, w, step, false, 0)
	}
}

func depthwiseRows(dst, src, w []float32, off []int, rows, cols, srcStep int) {
	if !avx2 {
		depthwiseRowsPortable(dst, src, w, off, rows, cols, srcStep)
		return
	}
	_ = dst[rows*cols-1]
	if avx512 {
		depthwiseRowsAVX512(&dst[0], &src[0], &w[0], &off[0], len(off), rows, cols, srcStep, 1<<(cols%16)-1)
		return
	}
	depthwiseRowsAVX2(&dst[0], &src[0], &w[0], &off[0], len(off), rows, cols, srcStep, &laneMask[16-cols%16])
}

// stencils says whether there are routines for windows of a size and stride.
func stencils(size, stride int) bool {
	return avx512 && (size == 2 || size == 3) && (stride == 1 || stride == 2)
}

// evens and odds are where every second element of two registers is.
var evens, odds [16]int32

func init() {
	for i := range evens {
		evens[i], odds[i] = int32(2*i), int32(2*i+1)
	}
}

// stencilSums is stencilSumsPortable for windows of size 3.
func stencilSums(s *stencil, dst, src, w []float32, bias, lo, hi float32) {
	if !avx512 {
		stencilSumsPortable(s, dst, src, w, bias, lo, hi)
		return
	}
	_ = w[8]
	n, masks := len(s.patches), unsafe.SliceData(s.masks)
	if s.stride == 1 {
		stencilSums3x1AVX512(&dst[0], &src[0], &w[0], &s.patches[0], n, masks, s.line, bias, lo, hi)
	} else {
		stencilSums3x2AVX512(&dst[0], &src[0], &w[0], &s.patches[0], n, masks, s.line, bias, lo, hi)
	}
}

// stencilMeans is stencilMeansPortable for windows of size 3.
func stencilMeans(s *stencil, dst, src, counts []float32) {
	if !avx512 {
		stencilMeansPortable(s, dst, src, counts)
		return
	}
	n, masks := len(s.patches), unsafe.SliceData(s.masks)
	if s.stride == 1 {
		stencilMeans3x1AVX512(&dst[0], &src[0], &counts[0], &s.patches[0], n, masks, s.line)
	} else {
		stencilMeans3x2AVX512(&dst[0], &src[0], &counts[0], &s.patches[0], n, masks, s.line)
	}
}

// stencilMax is stencilMaxPortable.
func stencilMax(s *stencil, dst, src []float32) {
	n, masks := len(s.patches), unsafe.SliceData(s.masks)
	switch {
	case !avx512:
		stencilMaxPortable(s, dst, src)
	case s.size == 2 && s.stride == 1:
		stencilMax2x1AVX512(&dst[0], &src[0], &s.patches[0], n, masks, s.line)
	case s.size == 2:
		stencilMax2x2AVX512(&dst[0], &src[0], &s.patches[0], n, masks, s.line)
	case s.stride == 1:
		stencilMax3x1AVX512(&dst[0], &src[0], &s.patches[0], n, masks, s.line)
	default:
		stencilMax3x2AVX512(&dst[0], &src[0], &s.patches[0], n, masks, s.line)
	}
}

func dealTwo(even, odd, x []float32) {
	done := 0
	if avx2 && len(even) >= 8 {
		done = len(even) &^ 7
		_, _ = odd[done-1], x[2*done-1]
		dealTwoAVX2(&even[0], &odd[0], &x[0], done/8)
	}
	dealTwoPortable(even[done:], odd[done:], x[2*done:])
}

// transposed is transposedPortable.
func transposed(dst []float32, ldd int, src []float32, lds, rows, cols int, end ending) {
	if !avx512 {
		transposedPortable(dst, ldd, src, lds, rows, cols, end)
		return
	}
	_, _ = dst[(rows-1)*ldd+cols-1], src[(cols-1)*lds+rows-1]
	for r := 0; r < rows; r += 16 {
		for c := 0; c < cols; c += 16 {
			part := end.from(r, r*ldd+c)
			m, n := min(16, rows-r), min(16, cols-c)
			_ = part.bias[m-1]
			if part.add != nil {
				_ = part.add[(m-1)*ldd+n-1]
			}
			transposedAVX512(&dst[r*ldd+c], ldd, &src[c*lds+r], lds, m, n, &part)
		}
	}
}

func vecSub(dst, x []float32) {
	switch {
	case !avx2:
		vecSubPortable(dst, x)
	case len(dst) == 0:
	case avx512:
		vecSubAVX512(&dst[0], &x[0], len(dst))
	default:
		vecSubAVX2(&dst[0], &x[0], len(dst))
	}
}

func vecAddScaled(dst, x []float32, c float32) {
	if !avx2 {
		vecAddScaledPortable(dst, x, c)
	} else if len(dst) > 0 {
		vecAddScaledAVX2(&dst[0], &x[0], len(dst), c)
	}
}

func vecAdd(dst, a, b []float32) {
	switch {
	case !avx2:
		vecAddPortable(dst, a, b)
	case len(dst) == 0:
	case avx512:
		vecAddAVX512(&dst[0], &a[0], &b[0], len(dst))
	default:
		vecAddAVX2(&dst[0], &a[0], &b[0], len(dst))
	}
}

func vecMul(dst, a, b []float32) {
	switch {
	case !avx2:
		vecMulPortable(dst, a, b)
	case len(dst) == 0:
	case avx512:
		vecMulAVX512(&dst[0], &a[0], &b[0], len(dst))
	default:
		vecMulAVX2(&dst[0], &a[0], &b[0], len(dst))
	}
}

func vecMax(dst, a, b []float32) {
	switch {
	case !avx2:
		vecMaxPortable(dst, a, b)
	case len(dst) == 0:
	case avx512:
		vecMaxAVX512(&dst[0], &a[0], &b[0], len(dst))
	default:
		vecMaxAVX2(&dst[0], &a[0], &b[0], len(dst))
	}
}

func vecClamp(dst, x []float32, lo, hi float32) {
	switch {
	case !avx2:
		vecClampPortable(dst, x, lo, hi)
	case len(dst) == 0:
	case avx512:
		vecClampAVX512(&dst[0], &x[0], len(dst), lo, hi)
	default:
		vecClampAVX2(&dst[0], &x[0], len(dst), lo, hi)
	}
}

func vecBiasClamp(dst []float32, bias, lo, hi float32) {
	switch {
	case !avx2:
		vecBiasClampPortable(dst, bias, lo, hi)
	case len(dst) == 0:
	case avx512:
		vecBiasClampAVX512(&dst[0], len(dst), bias, lo, hi)
	default:
		vecBiasClampAVX2(&dst[0], len(dst), bias, lo, hi)
	}
}

func vecDiv(dst, a, b []float32) {
	switch {
	case !avx2:
		vecDivPortable(dst, a, b)
	case len(dst) == 0:
	case avx512:
		vecDivAVX512(&dst[0], &a[0], &b[0], len(dst))
	default:
		vecDivAVX2(&dst[0], &a[0], &b[0], len(dst))
	}
}

// vecExp is vecExpPortable.
func vecExp(dst, x []float32, most float32) {
	if !avx512 || len(dst) == 0 {
		vecExpPortable(dst, x, most)
		return
	}
	vecExpAVX512(&dst[0], &x[0], len(dst), most)
}

// lanesMost is lanesMostPortable.
func lanesMost(x []float32) (most [16]float32) {
	if !avx512 || len(x) == 0 {
		return lanesMostPortable(x)
	}
	lanesMostAVX512(&most, &x[0], len(x))
	return most
}

// vecDivWide is vecDivWidePortable.
func vecDivWide(dst []float32, by float64) {
	if !avx512 || len(dst) == 0 {
		vecDivWidePortable(dst, by)
		return
	}
	vecDivWideAVX512(&dst[0], len(dst), &by)
}
