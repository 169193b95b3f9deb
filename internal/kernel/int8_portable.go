package kernel

import "math"

// multiplyPortable is c [rows,s.n] = A·Bᵀ for packed operands; columns past cols
// may hold anything. Signed says which bytes are, in lanes of four.
func multiplyPortable(s *scheme, c []int32, a, b []uint32, rows, lanes, cols int, aSigned, bSigned bool) {
	clear(c[:rows*s.n])
	for r := range rows {
		at, step := s.place(r, rows, lanes)
		row := c[r*s.n : r*s.n+cols]
		for l := range lanes {
			x, panel := a[at+l*step], b[l*s.n:]
			if x == 0 {
				continue
			}
			if s.per == 2 {
				lo, hi := int32(int16(x)), int32(x)>>16
				for i := range row {
					y := panel[i]
					row[i] += lo*int32(int16(y)) + hi*(int32(y)>>16)
				}
				continue
			}
			for i := range row {
				row[i] += dotBytes(x, panel[i], aSigned, bSigned)
			}
		}
	}
}

func dotBytes(x, y uint32, xSigned, ySigned bool) int32 {
	sum := int32(0)
	for range 4 {
		sum += intOf(byte(x), xSigned) * intOf(byte(y), ySigned)
		x, y = x>>8, y>>8
	}
	return sum
}

// intOf is a byte as a number.
func intOf(b byte, signed bool) int32 {
	if signed {
		return int32(int8(b))
	}
	return int32(b)
}

// packRunsPortable fills a panel dst [lanes][s.n]: value i of a lane is the byte at
// src[offs[i]], from where every run goes on for the lanes up to the next run.
// What lies past src is 0.
func packRunsPortable(s *scheme, dst []uint32, src []byte, offs []int32, runs []run8, flip byte) {
	for l := range len(offs) / s.per {
		panel := dst[l*s.n : (l+1)*s.n]
		for r, run := range runs {
			end := s.n
			if r+1 < len(runs) {
				end = runs[r+1].lane
			}
			for lane := run.lane; lane < end; lane++ {
				v := uint32(0)
				for i, off := range offs[l*s.per : (l+1)*s.per] {
					if at := int(off) + run.off + lane - run.lane; at < len(src) {
						v |= uint32(src[at]^flip) << (i * 32 / s.per)
					}
				}
				panel[lane] = v
			}
		}
	}
}

// requantRowsPortable writes dst [rows,cols] with a term and a scale for each row
// of c: see Output. Rows of dst are ldd apart, those of c ldc.
func requantRowsPortable(dst []byte, ldd int, c []int32, ldc, rows, cols int, add []int32, scale []float32, l limits) {
	for r := range rows {
		out := dst[r*ldd : r*ldd+cols]
		for i, v := range c[r*ldc : r*ldc+cols] {
			out[i] = l.requant(v+add[r], scale[r])
		}
	}
}

// requantColsPortable is requantRowsPortable with a term and a scale for each column.
func requantColsPortable(dst []byte, ldd int, c []int32, ldc, rows, cols int, add []int32, scale []float32, l limits) {
	for r := range rows {
		out := dst[r*ldd : r*ldd+cols]
		for i, v := range c[r*ldc : r*ldc+cols] {
			out[i] = l.requant(v+add[i], scale[i])
		}
	}
}

func (l *limits) requant(sum int32, scale float32) byte {
	return byte(l.round(float32(sum)*scale) + l.zero)
}

// round clamps and rounds half to even. Adding 1.5·2²³ leaves no bits for a
// fraction, and takes what the clamp lets through.
func (l *limits) round(v float32) int32 {
	const whole = 3 << 22
	if !(v > l.lo) {
		v = l.lo
	}
	if v > l.hi {
		v = l.hi
	}
	return int32(math.Float32bits(float32(v+whole))) - int32(math.Float32bits(whole))
}

// sumRowsPortable writes dst = c + the term of each row.
func sumRowsPortable(dst []int32, ldd int, c []int32, ldc, rows, cols int, add []int32) {
	for r := range rows {
		out := dst[r*ldd : r*ldd+cols]
		for i, v := range c[r*ldc : r*ldc+cols] {
			out[i] = v + add[r]
		}
	}
}

// sumColsPortable writes dst = c + the term of each column.
func sumColsPortable(dst []int32, ldd int, c []int32, ldc, rows, cols int, add []int32) {
	for r := range rows {
		out := dst[r*ldd : r*ldd+cols]
		for i, v := range c[r*ldc : r*ldc+cols] {
			out[i] = v + add[i]
		}
	}
}

// addOuterPortable is c += u·vᵀ.
func addOuterPortable(c []int32, ldc int, u, v []int32) {
	for r, x := range u {
		row := c[r*ldc : r*ldc+len(v)]
		for i, y := range v {
			row[i] += x * y
		}
	}
}

// widenPortable makes int16 of bytes whose bits of flip are turned.
func widenPortable(dst []int16, x []byte, flip byte) {
	for i, b := range x {
		dst[i] = int16(b ^ flip)
	}
}

// gemvWidePortable is dst = w·x for rows of int16.
func gemvWidePortable(dst []int32, w, x []int16, rows, k int) {
	for r := range rows {
		sum := int32(0)
		for i, v := range w[r*k : (r+1)*k] {
			sum += int32(v) * int32(x[i])
		}
		dst[r] = sum
	}
}

// gemvBytesPortable is dst = w·x for rows of bytes.
func gemvBytesPortable(dst []int32, w []byte, signed bool, x []int16, rows, k int) {
	for r := range rows {
		row, sum := w[r*k:(r+1)*k], int32(0)
		if signed {
			for i, v := range row {
				sum += int32(int8(v)) * int32(x[i])
			}
		} else {
			for i, v := range row {
				sum += int32(v) * int32(x[i])
			}
		}
		dst[r] = sum
	}
}

// depthwiseBytesPortable is dst [rows,cols] = Σ w·src over pairs of taps: a weight is
// an int16 half of an element of w, its cells lie off from the row's.
func depthwiseBytesPortable(dst []int32, src []byte, signed bool, w, off []int32, rows, cols, step int) {
	for r := range rows {
		row := dst[r*cols : (r+1)*cols]
		clear(row)
		for p, pair := range w {
			for h, v := range [2]int32{int32(int16(pair)), pair >> 16} {
				if v == 0 {
					continue
				}
				cells := src[r*step+int(off[2*p+h]):][:cols]
				if signed {
					for i, x := range cells {
						row[i] += v * int32(int8(x))
					}
				} else {
					for i, x := range cells {
						row[i] += v * int32(x)
					}
				}
			}
		}
	}
}

// quantizePortable writes y = saturate(roundHalfToEven(x / scale) + zero).
func quantizePortable(dst []byte, x []float32, scale float32, l limits) {
	for i, v := range x {
		dst[i] = byte(l.round(v/scale) + l.zero)
	}
}

// dequantizePortable writes y = (x − zero)·scale.
func dequantizePortable(dst []float32, x []byte, signed bool, scale float32, zero int32) {
	for i, b := range x {
		dst[i] = float32(intOf(b, signed)-zero) * scale
	}
}

// dealBytesPortable separates bytes at even and odd places.
func dealBytesPortable(even, odd, x []byte) {
	for i := range even {
		even[i], odd[i] = x[2*i], x[2*i+1]
	}
}
