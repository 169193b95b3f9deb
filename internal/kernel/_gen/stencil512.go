package main

import "fmt"

// stencils512 writes the loops over patches, see stencil.go: sums, means and maxima
// of windows of 3 × 3, maxima of 2 × 2.
func stencils512(a *asm) {
	for _, stride := range []int{1, 2} {
		stencil512(a, 3, stride, "Sums")
		stencil512(a, 3, stride, "Means")
		stencil512(a, 3, stride, "Max")
		stencil512(a, 2, stride, "Max")
	}
}

func stencil512(a *asm, size, stride int, kind string) {
	sums, means, most := kind == "Sums", kind == "Means", kind == "Max"
	args := []arg{
		{"dst", "*float32", "DI"},
		{"src", "*float32", "SI"},
		{"w", "*float32", "R8"},
		{"patches", "*patch", "R9"},
		{"count", "int", "CX"},
		{"masks", "*uint16", "R10"},
		{"line", "int", "R11"},
		{"bias", "float32", "Z28"},
		{"lo", "float32", "Z30"},
		{"hi", "float32", "Z31"},
	}
	switch {
	case means:
		args[2].name, args = "counts", args[:7]
	case most:
		args = append(args[:2:2], args[3:7]...)
	}
	name := fmt.Sprintf("stencil%s%dx%dAVX512", kind, size, stride)
	a.fn(name, fmt.Sprintf("%s is stencil%sPortable for windows of size %d and stride %d. count is at least 1.", name, kind, size, stride), args...)
	a.note("DI dst; SI src; R9 patches; CX patches left; R10 masks; R11 bytes of a row of the map; BX, R12, R13 rows of the window;")
	a.note("DX dst and AX masks of the patch; Z0, Z1 the outputs; Z2..Z7 cells; Z26, Z27 where even and odd ones are")
	a.note("Z16..Z24 w; R8 and, of the patch, R15 counts; Z28 bias; Z29 -Inf; Z30, Z31 the bounds; K1 lanes that exist")
	a.op("SHLQ $2, R11")
	taps := size * size
	if most {
		a.op("MOVL $0xff800000, AX")
		a.op("VPBROADCASTD AX, Z29")
	}
	if sums {
		for t := range taps {
			a.op("VBROADCASTSS %d(R8), Z%d", 4*t, 16+t)
		}
	}
	if stride == 2 {
		a.op("VMOVDQU32 ·evens(SB), Z26")
		a.op("VMOVDQU32 ·odds(SB), Z27")
	}
	rows := []string{"BX", "R12", "R13"}
	acc := 0
	// take puts the cells of a tap, in register z, into the outputs.
	take := func(t, z int) {
		switch {
		case sums:
			a.op("VFMADD231PS Z%d, Z%d, Z0", z, 16+t)
			return
		case means:
			a.op("VADDPS Z%d, Z0, Z0", z)
			return
		}
		// The greater one of two zeros is +0, and NaN wins.
		a.op("VCMPPS $3, Z%d, Z%d, K7", z, acc)
		a.op("VRANGEPS $5, Z%d, Z%d, Z%d", z, acc, 1-acc)
		a.op("VADDPS Z%d, Z%d, K7, Z%d", z, acc, 1-acc)
		acc = 1 - acc
	}
	begin := func() {
		if acc = 0; most {
			a.op("VMOVAPS Z29, Z0")
		} else {
			a.op("VPXORD Z0, Z0, Z0")
		}
	}
	end := func(mask string) {
		if means {
			a.op("VMOVUPS%s (R15),%s Z1", map[bool]string{true: ".Z"}[mask != ""], mask)
			a.op("VDIVPS Z1, Z0, Z0")
		}
		if sums {
			a.op("VADDPS Z28, Z0, Z0")
			a.op("VMAXPS Z0, Z30, Z0")
			a.op("VMINPS Z0, Z31, Z0")
		}
		a.op("VMOVUPS Z%d,%s (DX)", acc, mask)
	}
	a.label("patch")
	a.op("MOVLQSX (R9), BX")
	a.op("LEAQ (SI)(BX*4), BX")
	a.op("LEAQ (BX)(R11*1), R12")
	if size == 3 {
		a.op("LEAQ (BX)(R11*2), R13")
	}
	a.op("MOVLQSX 4(R9), DX")
	if means {
		a.op("LEAQ (R8)(DX*4), R15")
	}
	a.op("LEAQ (DI)(DX*4), DX")
	a.op("MOVLQSX 8(R9), AX")
	a.op("TESTQ AX, AX")
	a.op("JLT whole")
	a.op("LEAQ (R10)(AX*2), AX")
	a.op("KMOVW 12(R9), K1")
	begin()
	for t := range taps {
		row, at := rows[t/size], 4*(t%size)
		for v := range stride {
			z, k := 2+t%2*2+v, 2+t%2*2+v
			a.op("KMOVW %d(AX), K%d", 4*t+2*v, k)
			if most {
				a.op("VMOVAPS Z29, Z%d", z)
				a.op("VMOVUPS %d(%s), K%d, Z%d", at+64*v, row, k, z)
			} else {
				a.op("VMOVUPS.Z %d(%s), K%d, Z%d", at+64*v, row, k, z)
			}
		}
		z := 2 + t%2*2
		if stride == 2 {
			a.op("VPERMT2PS Z%d, Z26, Z%d", z+1, z)
		}
		take(t, z)
	}
	end(" K1,")
	a.op("ADDQ $16, R9")
	a.op("DECQ CX")
	a.op("JNZ patch")
	a.end()

	a.label("whole")
	begin()
	for t := range taps {
		row, at := rows[t/size], 4*(t%size)
		switch {
		case stride == 1 && most:
			a.op("VMOVUPS %d(%s), Z%d", at, row, 2+t%2)
			take(t, 2+t%2)
		case stride == 1 && means:
			a.op("VADDPS %d(%s), Z0, Z0", at, row)
		case stride == 1:
			a.op("VFMADD231PS %d(%s), Z%d, Z0", at, row, 16+t)
		case t%size == 1: // what the tap before has left over
			a.op("VPERMT2PS Z3, Z27, Z4")
			take(t, 4)
		default:
			a.op("VMOVUPS %d(%s), Z2", at, row)
			a.op("VMOVUPS %d(%s), Z3", at+64, row)
			if t%size == 0 {
				a.op("VMOVAPS Z2, Z4")
			}
			a.op("VPERMT2PS Z3, Z26, Z2")
			take(t, 2)
		}
	}
	end("")
	a.op("ADDQ $16, R9")
	a.op("DECQ CX")
	a.op("JNZ patch")
	a.end()
}
