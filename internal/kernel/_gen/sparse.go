package main

import "fmt"

// The products with weights of which many are zero. They read what is not left
// out one after the other, and with it where the other operand lies.

// sparseX86 writes them for AVX2, vectors of eight and 16 columns, or AVX-512.
func sparseX86(a *asm, level string, lanes int) {
	reg := map[int]string{8: "Y", 16: "Z"}[lanes]
	size := 4 * lanes // bytes of a vector
	args := []arg{
		{"c", "*float32", "DI"},
		{"ldc", "int", "SI"},
		{"a", "*float32", "AX"},
		{"b", "*float32", "BX"},
		{"at", "*int32", "R8"},
		{"starts", "*int32", "R9"},
		{"panels", "int", "R10"},
		{"first", "int", "R11"},
	}
	doc := "sparseTiles%s is sparseTilesPortable for %d columns; "
	if lanes == 16 {
		args = append(args, arg{"mask", "int", "DX"})
		doc += "mask has a bit for each that exists, "
	}
	a.fn("sparseTiles"+level, fmt.Sprintf(doc+"first is 1 to start the\nchains at zero, else 0. panels is at least 1.", level, 2*lanes), args...)
	a.note("DI c at the panel; SI bytes between rows; R12 three rows; AX a and R8 at, which run on")
	a.note("from panel to panel; BX b; R9 starts; R10 panels left; CX steps left; DX a row of b")
	a.note("%[1]s0..%[1]s7 the tile, two registers a row; %[1]s8, %[1]s9 b; %[1]s10..%[1]s13 elements of a", reg)
	masked := func(v int) string { return "" }
	if lanes == 16 {
		a.op("KMOVW DX, K1")
		a.op("SHRQ $16, DX")
		a.op("KMOVW DX, K2")
		masked = func(v int) string { return fmt.Sprintf("K%d, ", 1+v) }
	}
	zero := func(i int) {
		if lanes == 16 {
			a.op("VPXORD Z%[1]d, Z%[1]d, Z%[1]d", i)
		} else {
			a.op("VXORPS Y%[1]d, Y%[1]d, Y%[1]d", i)
		}
	}
	each := func(f func(i, v int, at string)) {
		for i, row := range []string{"(DI)", "(DI)(SI*1)", "(DI)(SI*2)", "(DI)(R12*1)"} {
			for v := range 2 {
				f(i, v, fmt.Sprintf("%d%s", size*v, row))
			}
		}
	}
	zeroing := map[int]string{8: "", 16: ".Z"}[lanes]
	a.op("SHLQ $2, SI")
	a.op("LEAQ (SI)(SI*2), R12")
	a.label("panel")
	a.op("MOVL 4(R9), CX")
	a.op("SUBL (R9), CX")
	a.op("ADDQ $4, R9")
	a.op("TESTQ R11, R11")
	a.op("JZ load")
	each(func(i, v int, _ string) { zero(2*i + v) })
	a.op("JMP loaded")
	a.label("load")
	each(func(i, v int, at string) { a.op("VMOVUPS%s %s, %s%s%d", zeroing, at, masked(v), reg, 2*i+v) })
	a.label("loaded")
	a.op("TESTL CX, CX")
	a.op("JZ store")
	a.label("step")
	a.op("MOVL (R8), DX")
	for v := range 2 {
		a.op("VMOVUPS %d(BX)(DX*1), %s%d", size*v, reg, 8+v)
	}
	for i := range 4 {
		a.op("VBROADCASTSS %d(AX), %s%d", 4*i, reg, 10+i)
		for v := range 2 {
			a.op("VFMADD231PS %[1]s%[2]d, %[1]s%[3]d, %[1]s%[4]d", reg, 8+v, 10+i, 2*i+v)
		}
	}
	a.op("ADDQ $4, R8")
	a.op("ADDQ $16, AX")
	a.op("DECL CX")
	a.op("JNZ step")
	a.label("store")
	each(func(i, v int, at string) { a.op("VMOVUPS %s%d, %s%s", reg, 2*i+v, masked(v), at) })
	a.op("LEAQ (DI)(SI*4), DI")
	a.op("DECQ R10")
	a.op("JNZ panel")
	a.end()

	a.fn("sparseRows"+level, "sparseRows"+level+" is sparseRowsPortable. rows is at least 1.",
		arg{"dst", "*float32", "DI"}, arg{"w", "*float32", "AX"}, arg{"x", "*float32", "BX"}, arg{"at", "*int32", "R8"},
		arg{"starts", "*int32", "R9"}, arg{"rows", "int", "R10"})
	a.note("DI dst; AX w and R8 at, which run on from row to row; BX x; R9 starts; R10 rows left;")
	a.note("CX blocks left; DX a block of x; %[1]s0.. lanes; %[1]s2.. w", reg)
	vectors := 16 / lanes
	a.label("row")
	a.op("MOVL 4(R9), CX")
	a.op("SUBL (R9), CX")
	a.op("ADDQ $4, R9")
	for v := range vectors {
		zero(v)
	}
	a.op("TESTL CX, CX")
	a.op("JZ sum")
	a.label("block")
	a.op("MOVL (R8), DX")
	for v := range vectors {
		a.op("VMOVUPS %d(AX), %s%d", size*v, reg, 2+v)
		a.op("VFMADD231PS %d(BX)(DX*1), %s%d, %s%d", size*v, reg, 2+v, reg, v)
	}
	a.op("ADDQ $4, R8")
	a.op("ADDQ $64, AX")
	a.op("DECL CX")
	a.op("JNZ block")
	a.label("sum")
	a.note("the tree: lane l + lane l+8, +4, +2, +1")
	if lanes == 16 {
		a.op("VEXTRACTF64X4 $1, Z0, Y1")
	}
	a.op("VADDPS Y1, Y0, Y0")
	a.op("VEXTRACTF128 $1, Y0, X1")
	a.op("VADDPS X1, X0, X0")
	a.op("VPERMILPS $0x0e, X0, X1")
	a.op("VADDPS X1, X0, X0")
	a.op("VMOVSHDUP X0, X1")
	a.op("VADDSS X1, X0, X0")
	a.op("VMOVSS X0, (DI)")
	a.op("ADDQ $4, DI")
	a.op("DECQ R10")
	a.op("JNZ row")
	a.end()
}

// magnitudes writes the look at an input before zeros are left out.
func magnitudes(a *asm) {
	a.fn("magnitudesAVX2", "magnitudesAVX2 widens least and most, eight lanes each, by the bits of |x| - 1 and of\n|x| for 16·groups elements. groups is at least 1.",
		arg{"least", "*uint32", "DI"}, arg{"most", "*uint32", "SI"}, arg{"x", "*float32", "BX"}, arg{"groups", "int", "CX"})
	a.note("DI least; SI most; BX x; CX groups left; Y0, Y1 least; Y2, Y3 most; Y4 all ones; Y5 all")
	a.note("but the sign; Y6, Y7 x")
	a.op("VMOVUPS (DI), Y0")
	a.op("VMOVUPS (DI), Y1")
	a.op("VMOVUPS (SI), Y2")
	a.op("VMOVUPS (SI), Y3")
	a.op("VPCMPEQD Y4, Y4, Y4")
	a.op("VPSRLD $1, Y4, Y5")
	a.label("group")
	for v := range 2 {
		a.op("VPAND %d(BX), Y5, Y%d", 32*v, 6+v)
		a.op("VPMAXUD Y%[1]d, Y%[2]d, Y%[2]d", 6+v, 2+v)
		a.op("VPADDD Y4, Y%[1]d, Y%[1]d", 6+v)
		a.op("VPMINUD Y%[1]d, Y%[2]d, Y%[2]d", 6+v, v)
	}
	a.op("ADDQ $64, BX")
	a.op("DECQ CX")
	a.op("JNZ group")
	a.op("VPMINUD Y1, Y0, Y0")
	a.op("VPMAXUD Y3, Y2, Y2")
	a.op("VMOVUPS Y0, (DI)")
	a.op("VMOVUPS Y2, (SI)")
	a.end()
}

// sparseNEON writes the products for arm64.
func sparseNEON(a *asm, n int) {
	q := n / 4 // registers a row
	a.fn("sparseTilesNEON", fmt.Sprintf("sparseTilesNEON is sparseTilesPortable for %d columns; first is 1 to start the chains\nat zero, else 0. panels is at least 1.", n),
		arg{"c", "*float32", "R0"}, arg{"ldc", "int", "R1"}, arg{"a", "*float32", "R2"}, arg{"b", "*float32", "R3"},
		arg{"at", "*int32", "R4"}, arg{"starts", "*int32", "R5"}, arg{"panels", "int", "R6"}, arg{"first", "int", "R7"})
	a.note("R0 c at the panel; R1 bytes between rows; R2 a and R4 at, which run on from panel to")
	a.note("panel; R3 b; R5 starts, R12, R8 those of the panel; R6 panels left; R9 a row of b;")
	a.note("R10 c at a row; R11 steps left")
	a.note("V0..V%d the tile, %d registers a row; V16..V%d b; V20 a", 4*q-1, q, 15+q)
	eachRow := func(load bool) {
		a.op("MOVD R0, R10")
		for i := range 4 {
			for v := range q {
				if load {
					a.op("FMOVQ %d(R10), F%d", 16*v, q*i+v)
				} else {
					a.op("FMOVQ F%d, %d(R10)", q*i+v, 16*v)
				}
			}
			a.op("ADD R1, R10")
		}
	}
	a.op("LSL $2, R1")
	a.op("MOVWU (R5), R12")
	a.label("panel")
	a.op("MOVWU.W 4(R5), R8")
	a.op("SUB R12, R8, R11")
	a.op("MOVD R8, R12")
	a.op("CBZ R7, load")
	a.zero(0, 4*q)
	a.op("B loaded")
	a.label("load")
	eachRow(true)
	a.label("loaded")
	a.op("CBZ R11, store")
	a.label("step")
	a.op("MOVWU.P 4(R4), R9")
	a.op("VLD1.P 16(R2), [V20.S4]")
	a.op("ADD R3, R9")
	for v := range q {
		a.op("FMOVQ %d(R9), F%d", 16*v, 16+v)
	}
	for v := range q {
		for i := range 4 {
			a.fmla(q*i+v, 16+v, 20, i)
		}
	}
	a.op("SUBS $1, R11")
	a.op("BNE step")
	a.label("store")
	eachRow(false)
	a.op("MOVD R10, R0")
	a.op("SUBS $1, R6")
	a.op("BNE panel")
	a.op("RET")

	a.fn("sparseLanesNEON", "sparseLanesNEON fills the 16 lanes of a row of blocks blocks of 16 weights. blocks is at\nleast 1.",
		arg{"lanes", "*float32", "R0"}, arg{"w", "*float32", "R1"}, arg{"x", "*float32", "R2"}, arg{"at", "*int32", "R3"}, arg{"blocks", "int", "R4"})
	a.note("R0 lanes; R1 w; R2 x; R3 at; R4 blocks left; R5 a block of x; V0..V3 lanes; V4..V7 w;")
	a.note("V16..V19 x")
	a.zero(0, 4)
	a.label("block")
	a.op("MOVWU.P 4(R3), R5")
	a.op("ADD R2, R5")
	a.op("PRFM 512(R1), PLDL1STRM")
	for v := range 4 {
		a.op("FMOVQ %d(R1), F%d", 16*v, 4+v)
		a.op("FMOVQ %d(R5), F%d", 16*v, 16+v)
	}
	for v := range 4 {
		a.op("VFMLA V%d.S4, V%d.S4, V%d.S4", 16+v, 4+v, v)
	}
	a.op("ADD $64, R1")
	a.op("SUBS $1, R4")
	a.op("BNE block")
	a.op("VST1 [%s], (R0)", registers(0))
	a.op("RET")

	a.fn("magnitudesNEON", "magnitudesNEON widens least and most, four lanes each, by the bits of |x| - 1 and of |x|\nfor 4·groups elements. groups is at least 1.",
		arg{"least", "*uint32", "R0"}, arg{"most", "*uint32", "R1"}, arg{"x", "*float32", "R2"}, arg{"groups", "int", "R3"})
	a.note("R0 least; R1 most; R2 x; R3 groups left; V0 least; V1 most; V2 all ones; V3 all but the")
	a.note("sign; V4 x")
	a.op("VLD1 (R0), [V0.S4]")
	a.op("VLD1 (R1), [V1.S4]")
	a.op("MOVD $-1, R4")
	a.op("VDUP R4, V2.S4")
	a.op("VUSHR $1, V2.S4, V3.S4")
	a.label("group")
	a.op("VLD1.P 16(R2), [V4.S4]")
	a.op("VAND V3.B16, V4.B16, V4.B16")
	a.op("VUMAX V4.S4, V1.S4, V1.S4")
	a.op("VADD V2.S4, V4.S4, V4.S4")
	a.op("VUMIN V4.S4, V0.S4, V0.S4")
	a.op("SUBS $1, R3")
	a.op("BNE group")
	a.op("VST1 [V0.S4], (R0)")
	a.op("VST1 [V1.S4], (R1)")
	a.op("RET")
}
