package kernel

// This file holds the portable twins of the assembly routines. They define the
// bits; dispatch_*.go chooses between the two.

// gemmTilesPortable multiplies m rows of A panels by n columns of one B panel:
// c[i][j] = chain over kc of a·b, rows of c being ldc apart. The chain starts at
// +0 if first, else at the value in c.
//
//	a [m/t.m][kc][t.m], b [kc][t.n]; c must not alias a or b
func gemmTilesPortable(t *tiling, c []float32, ldc int, a, b []float32, m, n, kc int, first bool) {
	for i := range m {
		ap := a[i/t.m*t.m*kc+i%t.m:]
		row := c[i*ldc : i*ldc+n : i*ldc+n]
		var whole [maxTileN]float32
		acc := whole[:n]
		if !first {
			copy(acc, row)
		}
		for k := range kc {
			av, bv := ap[k*t.m], b[k*t.n:][:len(acc)]
			for j := range acc {
				acc[j] = fma32(av, bv[j], acc[j])
			}
		}
		copy(row, acc)
	}
}

// gemmPackPortable is gemmTilesPortable for one whole tile, whose panel it packs
// first: lane l of row k of it is x[from.at+starts[k]+l], or zero.
func gemmPackPortable(t *tiling, c []float32, ldc int, a, packed, x []float32, starts []int32, from *panel, first bool) {
	for k, start := range starts {
		for l := range t.n {
			var v float32
			if from.whole || from.masks[k]>>l&1 != 0 {
				v = x[from.at+int(start)+l]
			}
			packed[k*t.n+l] = v
		}
	}
	gemmTilesPortable(t, c, ldc, a, packed, t.m, t.n, len(starts), first)
}

// interleavePortable writes k columns of m rows of x, ldx apart, into dst
// [k][width]; what is past m in a column stays.
func interleavePortable(dst, x []float32, ldx, m, width, k int) {
	if k == 0 {
		return
	}
	for r := range m {
		d := dst[r:]
		for c, v := range x[r*ldx : r*ldx+k] {
			d[c*width] = v
		}
	}
}

// gemvRowsPortable is dst[rows] = w[rows,k]·x[k] in 16 lanes.
func gemvRowsPortable(dst, w, x []float32, rows, k int) {
	x = x[:k]
	for r := range rows {
		row := w[r*k : r*k+k]
		var lane [16]float32
		for len(row) >= 16 {
			xs := x[k-len(row):]
			xs, ws := xs[:16:16], row[:16:16]
			for l := range lane {
				lane[l] = fma32(ws[l], xs[l], lane[l])
			}
			row = row[16:]
		}
		dst[r] = sumLanes(&lane, row, x[k-len(row):])
	}
}

// sumLanes takes the last columns, fewer than 16, into the lanes of a row and
// adds the lanes up.
func sumLanes(lane *[16]float32, row, x []float32) float32 {
	x = x[:len(row)]
	for l := range row {
		lane[l] = fma32(row[l], x[l], lane[l])
	}
	for half := 8; half > 0; half /= 2 {
		for l := range half {
			lane[l] += lane[l+half]
		}
	}
	return lane[0]
}

// packPortable fills one panel of an implicit im2col matrix: for each tap and
// each of its channels one row of width values of src [channels, h, w], zero
// where the tap lies in the padding. The rows of a tap are step rows apart in
// dst. A run has its columns stride cells apart in src: lane l reads at[0] +
// l·stride; without one, stride being 0, it reads at[l]. With merge, lanes outside the run keep what dst has; a run leaves zero
// in them otherwise.
func packPortable(dst, src []float32, cols *columns, taps []tap, width, h, w, step int, merge bool, stride int) {
	plane := h * w
	for i := range taps {
		t := &taps[i]
		for l := range width {
			at := cols.at[l]
			if stride > 0 {
				at = cols.at[0] + int32(l*stride)
			}
			y, x := cols.y[l]+t.dy, cols.x[l]+t.dx
			in := y >= 0 && int(y) < h && x >= 0 && int(x) < w
			if !in && merge {
				continue
			}
			d, s := int(t.row)*width+l, int(t.channel)*plane+int(at+t.off)
			for range t.count {
				if in {
					dst[d] = src[s]
				} else {
					dst[d] = 0
				}
				d += step * width
				s += plane
			}
		}
	}
}

// packWholePortable fills rows of maxTileN lanes: for each channel, plane elements
// apart, and each tap the cells of src from where the tap lies on.
func packWholePortable(dst, src []float32, taps []tap, channels, plane int) {
	for c := range channels {
		for i := range taps {
			copy(dst[:maxTileN], src[c*plane+int(taps[i].off):])
			dst = dst[maxTileN:]
		}
	}
}

// packStripesPortable is packWholePortable for lanes of several runs: see stripes,
// whose masks of the first tap begin at mask. Lanes outside the map are zero.
func packStripesPortable(dst, src []float32, taps []tap, channels, plane, runs int, s *stripes, mask int) {
	for c := range channels {
		for i := range taps {
			for l := range maxTileN {
				dst[l] = 0
				for r := range runs {
					if s.masks[mask+2*(i*runs+r)+l/16]>>(l%16)&1 != 0 {
						dst[l] = src[c*plane+s.at[r]+int(taps[i].off)+l]
					}
				}
			}
			dst = dst[maxTileN:]
		}
	}
}

// transposedPortable is dst = srcᵀ, then end: dst [rows,cols], rows ldd apart, src
// [cols,rows], rows lds apart.
func transposedPortable(dst []float32, ldd int, src []float32, lds, rows, cols int, end ending) {
	for r := range rows {
		row := dst[r*ldd:][:cols]
		for c := range row {
			row[c] = src[c*lds+r]
		}
	}
	end.apply(dst, ldd, rows, cols)
}

// depthwiseRowsPortable writes dst [rows, cols]: each element is one chain over
// the taps of w[t]·src[row·srcStep + off[t] + col], starting at +0.
func depthwiseRowsPortable(dst, src, w []float32, off []int, rows, cols, srcStep int) {
	w = w[:len(off)]
	for r := range rows {
		row := dst[r*cols : (r+1)*cols]
		clear(row)
		for t, o := range off {
			s := src[r*srcStep+o:]
			s = s[:len(row)]
			for c := range row {
				row[c] = fma32(w[t], s[c], row[c])
			}
		}
	}
}

// dealTwoPortable writes even[i] = x[2i] and odd[i] = x[2i+1] for all of even.
func dealTwoPortable(even, odd, x []float32) {
	odd, x = odd[:len(even)], x[:2*len(even)]
	for i := range even {
		even[i], odd[i] = x[2*i], x[2*i+1]
	}
}

func vecSubPortable(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] -= x[i]
	}
}

func vecAddScaledPortable(dst, x []float32, c float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = fma32(c, x[i], dst[i])
	}
}

func vecAddPortable(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] + b[i]
	}
}

// vecMaxPortable gives NaN where either is NaN, and +0 of two zeros of which
// one is +0.
func vecMaxPortable(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = max(a[i], b[i])
	}
}

func vecMulPortable(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] * b[i]
	}
}

// vecExpPortable is dst = expNonPositive(x - most).
func vecExpPortable(dst, x []float32, most float32) {
	x = x[:len(dst)]
	for i, v := range x {
		dst[i] = expNonPositive(v - most)
	}
}

func vecDivPortable(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] / b[i]
	}
}

// clamp keeps NaN, and -0 at a bound of +0, as VMAXPS and VMINPS do with the
// value as their second source.
func clamp(v, lo, hi float32) float32 {
	if v < lo {
		v = lo
	}
	if v > hi {
		v = hi
	}
	return v
}

func vecClampPortable(dst, x []float32, lo, hi float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = clamp(x[i], lo, hi)
	}
}

func vecBiasClampPortable(dst []float32, bias, lo, hi float32) {
	for i := range dst {
		dst[i] = clamp(dst[i]+bias, lo, hi)
	}
}
