package main

import (
	"fmt"
	"math"
	"strconv"
)

// The routines for arm64 that work on rows: operators of single elements,
// packing and depthwise convolution.

// Instructions on four lanes of single precision that Go's assembler lacks (Arm
// ARM DDI 0487, C7.2), without their registers.
var neonWords = map[string]int{
	"FADD":   0x4e20d400,
	"FSUB":   0x4ea0d400,
	"FMUL":   0x6e20dc00,
	"FDIV":   0x6e20fc00,
	"FMAX":   0x4e20f400,
	"FMIN":   0x4ea0f400,
	"FMAXNM": 0x4e20c400,
	"FCMGT":  0x6ea0e400,
}

// vector is Vd.4S = Vn.4S op Vm.4S.
func (a *asm) vector(op string, d, n, m int) {
	a.op("WORD $0x%08x // %s V%d.4S, V%d.4S, V%d.4S", neonWords[op]|m<<16|n<<5|d, op, d, n, m)
}

// elementwiseNEON writes the loops over whole slices: sixteen elements at a time
// in V0..V3, then four, then one in V0 with nothing beside it. R0 dst, R1 and R2
// the operands, R3 elements left.
func elementwiseNEON(a *asm) {
	dst, n := arg{"dst", "*float32", "R0"}, arg{"n", "int", "R3"}
	first, second := arg{"a", "*float32", "R1"}, arg{"b", "*float32", "R2"}
	x, lo, hi := arg{"x", "*float32", "R1"}, arg{"lo", "float32", "V17"}, arg{"hi", "float32", "V18"}
	// Steps are done one after the other, each for all registers, so that a core
	// that issues in order has other work while one is under way.
	type steps []func(i int)
	binary := func(op string) steps { return steps{func(i int) { a.vector(op, i, i, 4+i) }} }
	// FMAX and FMIN would make +0 of a -0 at a bound of +0.
	clamp := steps{
		func(i int) { a.vector("FCMGT", 8+i, 17, i) },
		func(i int) { a.op("VBIT V%d.B16, V17.B16, V%d.B16", 8+i, i) },
		func(i int) { a.vector("FCMGT", 8+i, i, 18) },
		func(i int) { a.op("VBIT V%d.B16, V18.B16, V%d.B16", 8+i, i) },
	}
	for _, f := range []struct {
		name string
		args []arg
		in   []string // operands, loaded into V0.. and V4..
		do   steps
	}{
		{"vecSub", []arg{dst, x, n}, []string{"R0", "R1"}, binary("FSUB")},
		{
			"vecAddScaled",
			[]arg{dst, x, n, {"c", "float32", "V16"}},
			[]string{"R0", "R1"},
			steps{func(i int) { a.op("VFMLA V16.S4, V%d.S4, V%d.S4", 4+i, i) }},
		},
		{"vecAdd", []arg{dst, first, second, n}, []string{"R1", "R2"}, binary("FADD")},
		{"vecMul", []arg{dst, first, second, n}, []string{"R1", "R2"}, binary("FMUL")},
		{"vecMax", []arg{dst, first, second, n}, []string{"R1", "R2"}, binary("FMAX")},
		{"vecClamp", []arg{dst, x, n, lo, hi}, []string{"R1"}, clamp},
		{
			"vecBiasClamp",
			[]arg{dst, n, {"bias", "float32", "V16"}, lo, hi},
			[]string{"R0"},
			append(steps{func(i int) { a.vector("FADD", i, i, 16) }}, clamp...),
		},
	} {
		a.fn(f.name+"NEON", f.name+"NEON is "+f.name+"Portable for n elements.", f.args...)
		for _, block := range []struct {
			name        string
			n           int
			load, store string
			list        func(first int) string
		}{
			{"sixteen", 16, "VLD1 (%s), [%s]", "VST1.P [%s], 64(R0)", registers},
			{"four", 4, "VLD1 (%s), [%s]", "VST1.P [%s], 16(R0)", func(v int) string { return fmt.Sprintf("V%d.S4", v) }},
			{"one", 1, "FMOVS (%s), %s", "FMOVS.P %s, 4(R0)", func(v int) string { return "F" + strconv.Itoa(v) }},
		} {
			a.op("SUBS $%d, R3", block.n)
			a.op("BLT past%s", block.name)
			a.label(block.name)
			for i, r := range f.in {
				a.op(block.load, r, block.list(4*i))
				if r != "R0" {
					a.op("ADD $%d, %s", 4*block.n, r)
				}
			}
			for _, step := range f.do {
				for i := range (block.n + 3) / 4 {
					step(i)
				}
			}
			a.op(block.store, block.list(0))
			a.op("SUBS $%d, R3", block.n)
			a.op("BGE %s", block.name)
			a.label("past" + block.name)
			a.op("ADD $%d, R3", block.n)
		}
		a.op("RET")
	}
}

// dealNEON separates even and odd elements eight at a time.
func dealNEON(a *asm) {
	a.fn("dealTwoNEON", "dealTwoNEON is dealTwoPortable for 8·groups pairs. groups is at least 1.",
		arg{"even", "*float32", "R0"}, arg{"odd", "*float32", "R1"}, arg{"x", "*float32", "R2"}, arg{"groups", "int", "R3"})
	a.note("R0 even; R1 odd; R2 x; R3 groups left; V0, V2 even elements; V1, V3 odd ones")
	a.label("group")
	a.op("VLD2.P 32(R2), [V0.S4, V1.S4]")
	a.op("VLD2.P 32(R2), [V2.S4, V3.S4]")
	for i := range 2 {
		a.op("VST1.P [V%d.S4], 16(R0)", 2*i)
		a.op("VST1.P [V%d.S4], 16(R1)", 2*i+1)
	}
	a.op("SUBS $1, R3")
	a.op("BNE group")
	a.op("RET")
}

// packSixNEON interleaves rows four columns at a time.
func packSixNEON(a *asm) {
	a.fn("packSixNEON", "packSixNEON is interleavePortable for 6 rows and 4·groups columns. groups is at least 1.",
		arg{"dst", "*float32", "R0"}, arg{"x", "*float32", "R1"}, arg{"ldx", "int", "R2"}, arg{"groups", "int", "R3"})
	a.note("R0 dst; R1, R4..R8 rows of x; R2 bytes of a row; R3 groups left")
	a.note("V0..V5 four elements of each row; V6, V7 rows 0-1, V16, V17 rows 2-3 and V18, V19")
	a.note("rows 4-5 in pairs, columns 0-1 and 2-3; then V20, V22 rows 0-3 of columns 0 and 2,")
	a.note("V18, V19 rows 4-5 of these and rows 0-1 of columns 1 and 3, V21, V23 rows 2-5 of those")
	a.op("LSL $2, R2")
	rows := []string{"R1", "R4", "R5", "R6", "R7", "R8"}
	for i := 1; i < 6; i++ {
		a.op("ADD R2, %s, %s", rows[i-1], rows[i])
	}
	a.label("group")
	for i, r := range rows {
		a.op("VLD1.P 16(%s), [V%d.S4]", r, i)
	}
	for i, v := range []int{6, 16, 18} {
		a.op("VZIP1 V%d.S4, V%d.S4, V%d.S4", 2*i+1, 2*i, v)
		a.op("VZIP2 V%d.S4, V%d.S4, V%d.S4", 2*i+1, 2*i, v+1)
	}
	for h := range 2 {
		a.op("VTRN1 V%d.D2, V%d.D2, V%d.D2", 16+h, 6+h, 20+2*h)
		a.op("VTRN2 V%d.D2, V%d.D2, V%d.D2", 18+h, 16+h, 21+2*h)
		a.op("VMOV V%d.D[1], V%d.D[1]", 6+h, 18+h)
	}
	for h := range 2 {
		for _, v := range []int{20 + 2*h, 18 + h, 21 + 2*h} {
			a.op("VST1.P [V%d.S4], 16(R0)", v)
		}
	}
	a.op("SUBS $1, R3")
	a.op("BNE group")
	a.op("RET")
}

// packNEON writes what fills the rows of one tap in a B panel.
func packNEON(a *asm) {
	head := []arg{{"dst", "*float32", "R0"}, {"src", "*float32", "R1"}, {"count", "int", "R2"}, {"plane", "int", "R3"}, {"step", "int", "R4"}}
	const regs = "R0 dst; R1 src, lane 0; R2 rows left; R3 bytes of a plane; R4 bytes between rows of dst"
	begin := func() {
		a.op("LSL $2, R3")
		a.op("LSL $6, R4")
	}
	end := func() {
		a.op("ADD R3, R1")
		a.op("ADD R4, R0")
		a.op("SUBS $1, R2")
		a.op("BNE row")
		a.op("RET")
	}

	a.fn("packCopyNEON", "packCopyNEON fills count rows of a tap with 16 neighbouring cells of each plane.\ncount is at least 1.", head...)
	a.note(regs)
	begin()
	a.label("row")
	a.op("VLD1 (R1), [%s]", registers(0))
	a.op("VST1 [%s], (R0)", registers(0))
	end()

	a.fn("packMaskedNEON", "packMaskedNEON is packCopyNEON for the lanes set in both from and to, each 16 long;\nthe others keep what they have if keep is -1 and become +0 if it is 0.",
		append(append([]arg{}, head...), arg{"from", "*int32", "R5"}, arg{"to", "*int32", "R6"}, arg{"keep", "int", "R7"})...)
	a.note(regs)
	a.note("V0..V3 cells; V4..V7 dst; V16..V19 lanes to fill; V24 lanes to keep")
	begin()
	a.op("VLD1 (R5), [%s]", registers(16))
	a.op("VLD1 (R6), [%s]", registers(20))
	for i := range 4 {
		a.op("VAND V%d.B16, V%d.B16, V%d.B16", 20+i, 16+i, 16+i)
	}
	a.op("VDUP R7, V24.D2")
	a.label("row")
	a.op("VLD1 (R1), [%s]", registers(0))
	a.op("VLD1 (R0), [%s]", registers(4))
	for i := range 4 {
		a.op("VAND V24.B16, V%d.B16, V%d.B16", 4+i, 4+i)
		a.op("VBIT V%d.B16, V%d.B16, V%d.B16", 16+i, i, 4+i)
	}
	a.op("VST1 [%s], (R0)", registers(4))
	end()

	a.fn("packGatherNEON", "packGatherNEON is packCopyNEON for cells anywhere: at[l] - at[0] cells after that of\nlane 0.",
		append(append([]arg{}, head...), arg{"at", "*int32", "R5"})...)
	a.note(regs)
	a.note("R6..R15, R19..R23 offsets of lanes 1-15; V0..V15 cells")
	begin()
	offset := func(lane int) int {
		if lane > 10 {
			return 8 + lane
		}
		return 5 + lane
	}
	a.op("MOVW (R5), R24")
	for l := 1; l < 16; l++ {
		a.op("MOVW %d(R5), R%d", 4*l, offset(l))
		a.op("SUB R24, R%d", offset(l))
	}
	a.label("row")
	a.op("FMOVS (R1), F0")
	for l := 1; l < 16; l++ {
		a.op("FMOVS (R1)(R%d<<2), F%d", offset(l), l)
	}
	for i := range 4 {
		a.op("VZIP1 V%d.S4, V%d.S4, V%d.S4", 4*i+1, 4*i, 16+i)
		a.op("VZIP1 V%d.S4, V%d.S4, V%d.S4", 4*i+3, 4*i+2, 20+i)
		a.op("VZIP1 V%d.D2, V%d.D2, V%d.D2", 20+i, 16+i, 16+i)
	}
	a.op("VST1 [%s], (R0)", registers(16))
	end()
}

// depthwiseNEON computes four registers at a time: sixteen columns of a row, or
// four columns of four rows. Where columns or rows run out, the last block is
// moved back and computes some elements again.
func depthwiseNEON(a *asm) {
	args := []arg{
		{"dst", "*float32", "R0"},
		{"src", "*float32", "R1"},
		{"w", "*float32", "R2"},
		{"off", "*int", "R3"},
		{"taps", "int", "R4"},
		{"rows", "int", "R5"},
		{"cols", "int", "R6"},
		{"srcStep", "int", "R7"},
	}
	const regs = "R0 row of dst; R1 row of src; R2 w; R3 off; R4 taps; R5 rows left; R6 columns; R7 bytes of a row of src"
	taps := func(load func()) {
		a.zero(0, 4)
		a.op("MOVD R2, R12")
		a.op("MOVD R3, R13")
		a.op("MOVD R4, R14")
		a.label("tap")
		a.op("MOVD.P 8(R13), R15")
		a.op("VLD1R.P 4(R12), [V8.S4]")
		load()
		for i := range 4 {
			a.op("VFMLA V8.S4, V%d.S4, V%d.S4", 4+i, i)
		}
		a.op("SUBS $1, R14")
		a.op("BNE tap")
	}

	a.fn("depthwiseWideNEON", "depthwiseWideNEON is depthwiseRowsPortable for at least 16 columns. rows and taps\nare at least 1.", args...)
	a.note(regs)
	a.note("R8 column; R9 the last block's; R10 src and R11 dst there; R12 w, R13 off and R14 taps left")
	a.note("at the tap; R15 offset; V0..V3 sums; V4..V7 src; V8 w")
	a.op("LSL $2, R7")
	a.op("SUB $16, R6, R9")
	a.label("row")
	a.op("MOVD $0, R8")
	a.label("cols")
	a.op("ADD R8<<2, R1, R10")
	a.op("ADD R8<<2, R0, R11")
	taps(func() {
		a.op("ADD R15<<2, R10, R15")
		a.op("VLD1 (R15), [%s]", registers(4))
	})
	a.op("VST1 [%s], (R11)", registers(0))
	a.op("CMP R9, R8")
	a.op("BEQ next")
	a.op("ADD $16, R8")
	a.op("CMP R9, R8")
	a.op("CSEL LT, R8, R9, R8")
	a.op("B cols")
	a.label("next")
	a.op("ADD R7, R1")
	a.op("ADD R6<<2, R0")
	a.op("SUBS $1, R5")
	a.op("BNE row")
	a.op("RET")

	a.fn("depthwiseTallNEON", "depthwiseTallNEON is depthwiseRowsPortable for at least 4 columns and 4 rows. taps\nis at least 1.", args...)
	a.note("R0 row of dst; R1 row of src; R2 w; R3 off; R4 taps; R5 rows left after these four;")
	a.note("R6 columns; R7 bytes of a row of src; R8 column; R9 the last block's; R10 src and R11")
	a.note("dst there; R12 w, R13 off and R14 taps left at the tap; R15 offset; R19 bytes of a row")
	a.note("of dst; V0..V3 sums; V4..V7 src; V8 w")
	a.op("LSL $2, R7")
	a.op("LSL $2, R6, R19")
	a.op("SUB $4, R6, R9")
	a.op("SUB $4, R5")
	a.label("row")
	a.op("MOVD $0, R8")
	a.label("cols")
	a.op("ADD R8<<2, R1, R10")
	a.op("ADD R8<<2, R0, R11")
	taps(func() {
		a.op("ADD R15<<2, R10, R15")
		for i := range 4 {
			a.op("FMOVQ (R15), F%d", 4+i)
			if i < 3 {
				a.op("ADD R7, R15")
			}
		}
	})
	for i := range 4 {
		a.op("FMOVQ F%d, (R11)", i)
		a.op("ADD R19, R11")
	}
	a.op("CMP R9, R8")
	a.op("BEQ next")
	a.op("ADD $4, R8")
	a.op("CMP R9, R8")
	a.op("CSEL LT, R8, R9, R8")
	a.op("B cols")
	a.label("next")
	a.note("the next four rows, or as many as are left")
	a.op("CBZ R5, end")
	a.op("MOVD $4, R10")
	a.op("CMP R10, R5")
	a.op("CSEL LT, R5, R10, R10")
	a.op("SUB R10, R5")
	a.op("MADD R7, R1, R10, R1")
	a.op("MADD R19, R0, R10, R0")
	a.op("B row")
	a.label("end")
	a.op("RET")
}

// expNEON writes the exponentials of a softmax, sixteen at a time, then four.
func expNEON(a *asm) {
	a.fn("vecExpNEON", "vecExpNEON is vecExpPortable for n elements, a multiple of 4.",
		arg{"dst", "*float32", "R0"}, arg{"x", "*float32", "R1"}, arg{"n", "int", "R2"}, arg{"most", "float32", "V31"})
	a.note("R0 dst; R1 x; R2 elements left; V0..V3 x, then r; V4..V7 n; V8..V11 y; V12..V15 what")
	a.note("is needed for a step; V16..V27 constants; V28 127; V29 zero")
	for i, c := range expConstants {
		a.op("MOVD $%#x, R3 // %v", math.Float32bits(c), c)
		a.op("VDUP R3, V%d.S4", 16+i)
	}
	a.op("MOVD $127, R3")
	a.op("VDUP R3, V28.S4")
	a.zero(29, 1)
	move := func(from, to int) { a.op("VORR V%[1]d.B16, V%[1]d.B16, V%[2]d.B16", from, to) }
	fused := func(n, m, d int) { a.op("VFMLA V%d.S4, V%d.S4, V%d.S4", n, m, d) }
	power := func(from, to int) { // 2 to an integer
		a.op("VADD V28.S4, V%d.S4, V%d.S4", from, to)
		a.op("VSHL $23, V%[1]d.S4, V%[1]d.S4", to)
	}
	for _, n := range []int{4, 1} {
		name := map[int]string{4: "sixteen", 1: "four"}[n]
		each := func(f func(i int)) {
			for i := range n {
				f(i)
			}
		}
		a.op("SUBS $%d, R2", 4*n)
		a.op("BLT past%s", name)
		a.label(name)
		each(func(i int) { a.op("FMOVQ %d(R1), F%d", 16*i, i) })
		each(func(i int) { a.vector("FSUB", i, i, 31) })
		each(func(i int) { move(18, 4+i) })
		each(func(i int) { fused(17, i, 4+i) })
		each(func(i int) { a.vector("FSUB", 4+i, 4+i, 18) })
		each(func(i int) { fused(19, 4+i, i) })
		each(func(i int) { fused(20, 4+i, i) })
		each(func(i int) { move(21, 8+i) })
		y, next := 8, 12
		for _, c := range []int{22, 23, 24, 25, 26, 27, 27} {
			each(func(i int) { move(c, next+i) })
			each(func(i int) { fused(i, y+i, next+i) })
			y, next = next, y
		}
		a.note("2ⁿ in two factors, and 0 where x is less than the first constant")
		each(func(i int) { a.op("WORD $0x%08x // FCVTZS V%d.4S, V%d.4S", 0x4ea1b800|(4+i)<<5|4+i, 4+i, 4+i) })
		each(func(i int) { a.op("WORD $0x%08x // SSHR $1, V%d.4S, V%d.4S", 0x4f3f0400|(4+i)<<5|i, 4+i, i) })
		each(func(i int) { a.op("VSUB V%d.S4, V%d.S4, V%d.S4", i, 4+i, 4+i) })
		each(func(i int) { power(i, i) })
		each(func(i int) { a.vector("FMUL", y+i, y+i, i) })
		each(func(i int) { power(4+i, 4+i) })
		each(func(i int) { a.vector("FMUL", y+i, y+i, 4+i) })
		each(func(i int) { a.op("FMOVQ %d(R1), F%d", 16*i, i) })
		each(func(i int) { a.vector("FSUB", i, i, 31) })
		each(func(i int) { a.vector("FCMGT", i, 16, i) })
		each(func(i int) { a.op("VBIT V%d.B16, V29.B16, V%d.B16", i, y+i) })
		each(func(i int) { a.op("FMOVQ F%d, %d(R0)", y+i, 16*i) })
		a.op("ADD $%d, R1", 16*n)
		a.op("ADD $%d, R0", 16*n)
		a.op("SUBS $%d, R2", 4*n)
		a.op("BGE %s", name)
		a.label("past" + name)
		a.op("ADD $%d, R2", 4*n)
	}
	a.op("RET")
}
