//go:build !noasm

package kernel

import "golang.org/x/sys/cpu"

// The schemes of amd64. amx is there only where the operating system gave leave.
var (
	pairs12x32 = scheme{name: "pairs12x32", m: 12, n: 32, unit: 4, per: 2, step: 1}
	bytes12x32 = scheme{name: "bytes12x32", m: 12, n: 32, unit: 4, per: 4, step: 1}
	bytes6x16  = scheme{name: "bytes6x16", m: 6, n: 16, unit: 6, per: 4, step: 1}
	amx32x32   = scheme{name: "amx32x32", m: 32, n: 32, unit: 16, per: 4, step: 16, rowMajor: true}
)

var (
	vnni512 = cpu.X86.HasAVX512VNNI
	vbmi    = cpu.X86.HasAVX512VBMI
	vnni256 = cpu.X86.HasAVXVNNI
	amx     = cpu.X86.HasAMXTile && cpu.X86.HasAMXInt8 && allowAMX()
)

// amxConfig configures eight tiles of 16 rows of 64 bytes (Intel SDM, LDTILECFG).
var amxConfig = func() (c [64]byte) {
	c[0] = 1
	for t := range 8 {
		c[16+2*t], c[48+t] = 64, 16
	}
	return c
}()

// schemesOf lists the schemes of the level, best first, for bytes or for int16.
func schemesOf(wide bool) []*scheme {
	var list []*scheme
	if avx512 && vnni512 {
		if wide {
			list = append(list, &pairs12x32)
		} else if list = append(list, &bytes12x32); amx {
			list = []*scheme{&amx32x32, &bytes12x32}
		}
	}
	if avx2 && vnni256 && !wide {
		list = append(list, &bytes6x16)
	}
	return append(list, &pairs6x16)
}

func multiplyTiles(s *scheme, c []int32, a, b []uint32, rows, lanes, cols int, aSigned, bSigned bool) {
	vectors := ceilDiv(cols, 16)
	switch {
	case s == &amx32x32 && avx512 && aSigned:
		mulSignedAMX(&c[0], &a[0], &b[0], lanes, rows, &amxConfig)
	case s == &amx32x32 && avx512:
		mulUnsignedAMX(&c[0], &a[0], &b[0], lanes, rows, &amxConfig)
	case s == &bytes12x32 && avx512 && aSigned:
		mulBytesAVX512(&c[0], &a[0], &b[0], lanes, rows, vectors)
	case s == &bytes12x32 && avx512:
		mulBytesFlippedAVX512(&c[0], &a[0], &b[0], lanes, rows, vectors)
	case s == &pairs12x32 && avx512:
		mulPairsAVX512(&c[0], &a[0], &b[0], lanes, rows, vectors)
	case s == &bytes6x16 && avx2 && aSigned:
		mulBytesVNNI(&c[0], &a[0], &b[0], lanes, rows)
	case s == &bytes6x16 && avx2:
		mulBytesFlippedVNNI(&c[0], &a[0], &b[0], lanes, rows)
	case s == &pairs6x16 && avx2:
		mulPairsAVX2(&c[0], &a[0], &b[0], lanes, rows)
	default:
		multiplyPortable(s, c, a, b, rows, lanes, cols, aSigned, bSigned)
	}
}

// flipMask is the mask of packed bytes, as the assembly takes it.
var flipMask = func() (m [2][32]byte) {
	for i := range m[1] {
		m[1][i] = 0x80
	}
	return m
}()

func packRuns(s *scheme, dst []uint32, src []byte, offs []int32, runs []run8, flip byte) {
	last := runs[len(runs)-1]
	if !avx2 {
		packRunsPortable(s, dst, src, offs, runs, flip)
		return
	}
	lanes, mask := len(offs)/s.per, &flipMask[flip>>7]
	_ = dst[(lanes-1)*s.n+last.lane+s.n-1]
	switch {
	case s.per == 4 && s.n == 32:
		packBytes32AVX2(&dst[0], &src[0], &offs[0], &runs[0], len(runs), lanes, mask)
	case s.per == 4:
		packBytes16AVX2(&dst[0], &src[0], &offs[0], &runs[0], len(runs), lanes, mask)
	case s.n == 32:
		packPairs32AVX2(&dst[0], &src[0], &offs[0], &runs[0], len(runs), lanes, mask)
	default:
		packPairs16AVX2(&dst[0], &src[0], &offs[0], &runs[0], len(runs), lanes, mask)
	}
}

func requantRows(dst []byte, ldd int, c []int32, ldc, rows, cols int, add []int32, scale []float32, l limits) {
	_, _, _, _ = dst[(rows-1)*ldd+cols-1], c[(rows-1)*ldc+cols-1], add[rows-1], scale[rows-1]
	done := 0
	switch {
	case avx512:
		requantRowsAVX512(&dst[0], ldd, &c[0], ldc, rows, cols, &add[0], &scale[0], int(l.zero), l.lo, l.hi)
		return
	case avx2 && cols >= 8:
		done = cols &^ 7
		requantRowsAVX2(&dst[0], ldd, &c[0], ldc, rows, done, &add[0], &scale[0], int(l.zero), l.lo, l.hi)
	}
	if done < cols {
		requantRowsPortable(dst[done:], ldd, c[done:], ldc, rows, cols-done, add, scale, l)
	}
}

func requantCols(dst []byte, ldd int, c []int32, ldc, rows, cols int, add []int32, scale []float32, l limits) {
	_, _, _, _ = dst[(rows-1)*ldd+cols-1], c[(rows-1)*ldc+cols-1], add[cols-1], scale[cols-1]
	done := 0
	switch {
	case avx512:
		requantColsAVX512(&dst[0], ldd, &c[0], ldc, rows, cols, &add[0], &scale[0], int(l.zero), l.lo, l.hi)
		return
	case avx2 && cols >= 8:
		done = cols &^ 7
		requantColsAVX2(&dst[0], ldd, &c[0], ldc, rows, done, &add[0], &scale[0], int(l.zero), l.lo, l.hi)
	}
	if done < cols {
		requantColsPortable(dst[done:], ldd, c[done:], ldc, rows, cols-done, add[done:], scale[done:], l)
	}
}

func sumRows(dst []int32, ldd int, c []int32, ldc, rows, cols int, add []int32) {
	_, _, _ = dst[(rows-1)*ldd+cols-1], c[(rows-1)*ldc+cols-1], add[rows-1]
	done := 0
	if avx2 && cols >= 8 {
		done = cols &^ 7
		sumRowsAVX2(&dst[0], ldd, &c[0], ldc, rows, done, &add[0])
	}
	if done < cols {
		sumRowsPortable(dst[done:], ldd, c[done:], ldc, rows, cols-done, add)
	}
}

func sumCols(dst []int32, ldd int, c []int32, ldc, rows, cols int, add []int32) {
	_, _, _ = dst[(rows-1)*ldd+cols-1], c[(rows-1)*ldc+cols-1], add[cols-1]
	done := 0
	if avx2 && cols >= 8 {
		done = cols &^ 7
		sumColsAVX2(&dst[0], ldd, &c[0], ldc, rows, done, &add[0])
	}
	if done < cols {
		sumColsPortable(dst[done:], ldd, c[done:], ldc, rows, cols-done, add[done:])
	}
}

func addOuter(c []int32, ldc int, u, v []int32) {
	done := 0
	if avx2 && len(v) >= 8 && len(u) > 0 {
		done = len(v) &^ 7
		_ = c[(len(u)-1)*ldc+len(v)-1]
		addOuterAVX2(&c[0], ldc, &u[0], &v[0], len(u), done)
	}
	if done < len(v) {
		addOuterPortable(c[done:], ldc, u, v[done:])
	}
}

func widen(dst []int16, x []byte, flip byte) {
	done := 0
	if avx2 && len(x) >= 16 {
		done = len(x) &^ 15
		_ = dst[done-1]
		widenAVX2(&dst[0], &x[0], done/16, &flipMask[flip>>7])
	}
	widenPortable(dst[done:], x[done:], flip)
}

// gemvWants says whether the products of weights read in place are those of bytes,
// and whether the vector must be signed then.
func gemvWants(w *Weights) (signed, ok bool) {
	return !w.Signed, avx512 && vnni512 && w.Wide == nil
}

func gemvBytes(dst []int32, w []byte, signed bool, x *vector8, rows, k int) {
	_, _ = dst[rows-1], w[rows*k-1]
	switch {
	case x.bytes != nil && signed:
		gemvSignedAVX512(&dst[0], &w[0], &x.bytes[0], rows, k, 1<<(k%64)-1)
	case x.bytes != nil:
		gemvUnsignedAVX512(&dst[0], &w[0], &x.bytes[0], rows, k, 1<<(k%64)-1)
	case avx2 && k >= 32:
		whole := k &^ 31
		for r := range rows {
			row := w[r*k : (r+1)*k]
			rest := dst[r : r+1]
			gemvBytesPortable(rest, row[whole:], signed, x.wide[whole:], 1, k-whole)
			tail := rest[0]
			if signed {
				gemvSignedAVX2(&rest[0], &row[0], &x.wide[0], whole/32)
			} else {
				gemvUnsignedAVX2(&rest[0], &row[0], &x.wide[0], whole/32)
			}
			rest[0] += tail
		}
	default:
		gemvBytesPortable(dst, w, signed, x.wide, rows, k)
	}
}

func gemvWide(dst []int32, w, x []int16, rows, k int) {
	whole := k &^ 31
	if !avx2 || whole == 0 {
		gemvWidePortable(dst, w, x, rows, k)
		return
	}
	_, _ = dst[rows-1], w[rows*k-1]
	for r := range rows {
		row := w[r*k : (r+1)*k]
		rest := dst[r : r+1]
		gemvWidePortable(rest, row[whole:], x[whole:], 1, k-whole)
		tail := rest[0]
		gemvWideAVX2(&rest[0], &row[0], &x[0], whole/32)
		rest[0] += tail
	}
}

// patchable says whether patchSums has a routine.
func patchable() bool { return avx512 && vnni512 && vbmi }

func patchSums(p *patchwork, dst []int32, x []byte, w []uint32, flip, pad byte) {
	if !patchable() {
		patchSumsPortable(p, dst, x, w, flip, pad)
		return
	}
	_ = w[p.groups-1]
	patchSumsVNNI(&dst[0], &x[0], &w[0], &p.patches[0], len(p.patches)/(2+2*p.groups), p.groups, &p.picks[0],
		1<<min(64, len(x))-1, int(flip), int(pad))
}

func depthwiseSums(dst []int32, src []byte, signed bool, w, off []int32, rows, cols, step int) {
	switch {
	case !avx2:
		depthwiseBytesPortable(dst, src, signed, w, off, rows, cols, step)
	case signed:
		depthwiseSignedAVX2(&dst[0], &src[0], &w[0], &off[0], len(w), rows, cols, step)
	default:
		depthwiseUnsignedAVX2(&dst[0], &src[0], &w[0], &off[0], len(w), rows, cols, step)
	}
}

func quantize(dst []byte, x []float32, scale float32, l limits) {
	done := 0
	if avx2 && len(x) >= 8 {
		done = len(x) &^ 7
		quantizeAVX2(&dst[0], &x[0], done, int(l.zero), scale, l.lo, l.hi)
	}
	quantizePortable(dst[done:], x[done:], scale, l)
}

func dequantize(dst []float32, x []byte, signed bool, scale float32, zero int32) {
	done := 0
	if avx2 && len(x) >= 8 {
		done = len(x) &^ 7
		if signed {
			dequantizeSignedAVX2(&dst[0], &x[0], done, int(zero), scale)
		} else {
			dequantizeUnsignedAVX2(&dst[0], &x[0], done, int(zero), scale)
		}
	}
	dequantizePortable(dst[done:], x[done:], signed, scale, zero)
}

func dealBytes(even, odd, x []byte) {
	done := 0
	if avx2 && len(even) >= 16 {
		done = len(even) &^ 15
		_, _ = odd[done-1], x[2*done-1]
		dealBytesAVX2(&even[0], &odd[0], &x[0], done/16)
	}
	dealBytesPortable(even[done:], odd[done:], x[2*done:])
}
