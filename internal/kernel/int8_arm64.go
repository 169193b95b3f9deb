//go:build !noasm

package kernel

import "golang.org/x/sys/cpu"

// The schemes of arm64: SDOT where the CPU has it (Cortex-A55, A76 and later).
var (
	bytes12x8 = scheme{name: "bytes12x8", m: 12, n: 8, unit: 4, per: 4, step: 1, signedX: true}
	pairs12x8 = scheme{name: "pairs12x8", m: 12, n: 8, unit: 4, per: 2, step: 1}
)

var sdot = cpu.ARM64.HasASIMDDP

// schemesOf lists the schemes of the level, best first, for bytes or for int16.
func schemesOf(wide bool) []*scheme {
	switch {
	case !neon:
		return []*scheme{&pairs6x16}
	case sdot && !wide:
		return []*scheme{&bytes12x8, &pairs12x8}
	}
	return []*scheme{&pairs12x8}
}

func multiplyTiles(s *scheme, c []int32, a, b []uint32, rows, lanes, cols int, aSigned, bSigned bool) {
	switch {
	case neon && s == &bytes12x8:
		mulBytesNEON(&c[0], &a[0], &b[0], lanes, rows)
	case neon && s == &pairs12x8:
		mulPairsNEON(&c[0], &a[0], &b[0], lanes, rows)
	default:
		multiplyPortable(s, c, a, b, rows, lanes, cols, aSigned, bSigned)
	}
}

func packRuns(s *scheme, dst []uint32, src []byte, offs []int32, runs []run8, flip byte) {
	lanes := len(offs) / s.per
	switch {
	case neon && s == &bytes12x8:
		packBytesNEON(&dst[0], &src[0], &offs[0], &runs[0], len(runs), lanes, int(flip))
	case neon && s == &pairs12x8:
		packPairsNEON(&dst[0], &src[0], &offs[0], &runs[0], len(runs), lanes, int(flip))
	default:
		packRunsPortable(s, dst, src, offs, runs, flip)
	}
}

func requantRows(dst []byte, ldd int, c []int32, ldc, rows, cols int, add []int32, scale []float32, l limits) {
	_, _, _, _ = dst[(rows-1)*ldd+cols-1], c[(rows-1)*ldc+cols-1], add[rows-1], scale[rows-1]
	done := 0
	if neon && cols >= 8 {
		done = cols &^ 7
		requantRowsNEON(&dst[0], ldd, &c[0], ldc, rows, done, &add[0], &scale[0], int(l.zero), l.lo, l.hi)
	}
	if done < cols {
		requantRowsPortable(dst[done:], ldd, c[done:], ldc, rows, cols-done, add, scale, l)
	}
}

func requantCols(dst []byte, ldd int, c []int32, ldc, rows, cols int, add []int32, scale []float32, l limits) {
	_, _, _, _ = dst[(rows-1)*ldd+cols-1], c[(rows-1)*ldc+cols-1], add[cols-1], scale[cols-1]
	done := 0
	if neon && cols >= 8 {
		done = cols &^ 7
		requantColsNEON(&dst[0], ldd, &c[0], ldc, rows, done, &add[0], &scale[0], int(l.zero), l.lo, l.hi)
	}
	if done < cols {
		requantColsPortable(dst[done:], ldd, c[done:], ldc, rows, cols-done, add[done:], scale[done:], l)
	}
}

// gemvWants says whether the products of weights read in place are those of bytes,
// and whether the vector must be signed then.
func gemvWants(w *Weights) (signed, ok bool) { return w.Signed, neon && sdot && w.Wide == nil }

func gemvBytes(dst []int32, w []byte, signed bool, x *vector8, rows, k int) {
	_, _ = dst[rows-1], w[rows*k-1]
	for r := range rows {
		row, sum := w[r*k:(r+1)*k], dst[r:r+1]
		done := 0
		switch {
		case x.bytes != nil:
			rest := int32(0)
			for i := k &^ 63; i < k; i++ {
				rest += intOf(row[i], signed) * intOf(x.bytes[i], signed)
			}
			sum[0] = 0
			if groups := k / 64; groups > 0 && signed {
				dotSignedNEON(&sum[0], &row[0], &x.bytes[0], groups)
			} else if groups > 0 {
				dotUnsignedNEON(&sum[0], &row[0], &x.bytes[0], groups)
			}
			sum[0] += rest
			continue
		case neon && k >= 16:
			done = k &^ 15
		}
		gemvBytesPortable(sum, row[done:], signed, x.wide[done:], 1, k-done)
		if rest := sum[0]; done > 0 {
			if signed {
				gemvSignedNEON(&sum[0], &row[0], &x.wide[0], done/16)
			} else {
				gemvUnsignedNEON(&sum[0], &row[0], &x.wide[0], done/16)
			}
			sum[0] += rest
		}
	}
}

func gemvWide(dst []int32, w, x []int16, rows, k int) {
	whole := k &^ 15
	if !neon || whole == 0 {
		gemvWidePortable(dst, w, x, rows, k)
		return
	}
	_, _ = dst[rows-1], w[rows*k-1]
	for r := range rows {
		row, sum := w[r*k:(r+1)*k], dst[r:r+1]
		gemvWidePortable(sum, row[whole:], x[whole:], 1, k-whole)
		rest := sum[0]
		gemvWideNEON(&sum[0], &row[0], &x[0], whole/16)
		sum[0] += rest
	}
}

func depthwiseSums(dst []int32, src []byte, signed bool, w, off []int32, rows, cols, step int) {
	switch {
	case !neon:
		depthwiseBytesPortable(dst, src, signed, w, off, rows, cols, step)
	case signed:
		depthwiseSignedNEON(&dst[0], &src[0], &w[0], &off[0], len(w), rows, cols, step)
	default:
		depthwiseUnsignedNEON(&dst[0], &src[0], &w[0], &off[0], len(w), rows, cols, step)
	}
}

func sumRows(dst []int32, ldd int, c []int32, ldc, rows, cols int, add []int32) {
	sumRowsPortable(dst, ldd, c, ldc, rows, cols, add)
}

func sumCols(dst []int32, ldd int, c []int32, ldc, rows, cols int, add []int32) {
	sumColsPortable(dst, ldd, c, ldc, rows, cols, add)
}

func addOuter(c []int32, ldc int, u, v []int32) { addOuterPortable(c, ldc, u, v) }

func widen(dst []int16, x []byte, flip byte) { widenPortable(dst, x, flip) }

func quantize(dst []byte, x []float32, scale float32, l limits) {
	done := 0
	if neon && len(x) >= 8 {
		done = len(x) &^ 7
		quantizeNEON(&dst[0], &x[0], done, int(l.zero), scale, l.lo, l.hi)
	}
	quantizePortable(dst[done:], x[done:], scale, l)
}

func dequantize(dst []float32, x []byte, signed bool, scale float32, zero int32) {
	done := 0
	if neon && len(x) >= 8 {
		done = len(x) &^ 7
		if signed {
			dequantizeSignedNEON(&dst[0], &x[0], done, int(zero), scale)
		} else {
			dequantizeUnsignedNEON(&dst[0], &x[0], done, int(zero), scale)
		}
	}
	dequantizePortable(dst[done:], x[done:], signed, scale, zero)
}

func dealBytes(even, odd, x []byte) { dealBytesPortable(even, odd, x) }

// patchable says whether patchSums has a routine.
func patchable() bool { return false }

func patchSums(p *patchwork, dst []int32, x []byte, w []uint32, flip, pad byte) {
	patchSumsPortable(p, dst, x, w, flip, pad)
}
