package main

import (
	"fmt"
	"strings"
)

// The routines for amd64.

// end returns to Go code, which wants the upper halves of the registers clean.
func (a *asm) end() {
	a.op("VZEROUPPER")
	a.op("RET")
}

func gemm(a *asm) {
	a.fn("gemmTilesAVX2", "gemmTilesAVX2 is gemmTilesPortable; first is 1 to start the chains at zero, else 0.\npanels and kc are at least 1. What lies at ahead is fetched into the second cache, 16 bytes for each\nk and panel.",
		arg{"c", "*float32", "DI"}, arg{"ldc", "int", "SI"}, arg{"a", "*float32", "AX"}, arg{"b", "*float32", "BX"},
		arg{"kc", "int", "R8"}, arg{"panels", "int", "R9"}, arg{"first", "int", "R10"}, arg{"ahead", "*float32", "R13"})
	a.note("R13 ahead")
	a.note("DI c, row 0 of the tile; R12 row 3; SI bytes between rows; R11 three rows")
	a.note("AX a, runs on from panel to panel; BX b; DX b at the current k; CX steps left")
	a.note("Y0..Y11 the tile, two registers a row; Y12, Y13 a row of b; Y14, Y15 elements of a")
	a.op("SHLQ $2, SI")
	a.op("LEAQ (SI)(SI*2), R11")
	rows := []string{"(DI)", "(DI)(SI*1)", "(DI)(SI*2)", "(R12)", "(R12)(SI*1)", "(R12)(SI*2)"}
	a.label("panel")
	a.op("LEAQ (DI)(R11*1), R12")
	a.op("MOVQ BX, DX")
	a.op("TESTQ R10, R10")
	a.op("JZ load")
	for i := range 12 {
		a.op("VXORPS Y%d, Y%d, Y%d", i, i, i)
	}
	for _, r := range rows {
		a.op("PREFETCHT0 %s", r)
	}
	a.op("JMP loaded")
	a.label("load")
	for i, r := range rows {
		a.op("VMOVUPS %s, Y%d", r, 2*i)
		a.op("VMOVUPS 32%s, Y%d", r, 2*i+1)
	}
	a.label("loaded")
	const unroll = 4
	a.op("MOVQ R8, CX")
	a.op("SUBQ $%d, CX", unroll)
	a.op("JLT rest")
	step := func(u int) {
		a.op("VMOVUPS %d(DX), Y12", 64*u)
		a.op("VMOVUPS %d(DX), Y13", 64*u+32)
		for i := range 6 {
			y := 14 + i%2
			a.op("VBROADCASTSS %d(AX), Y%d", 24*u+4*i, y)
			a.op("VFMADD231PS Y12, Y%d, Y%d", y, 2*i)
			a.op("VFMADD231PS Y13, Y%d, Y%d", y, 2*i+1)
		}
	}
	a.label("four")
	a.op("PREFETCHT1 (R13)")
	a.op("ADDQ $64, R13")
	for u := range unroll {
		step(u)
	}
	a.op("ADDQ $%d, AX", 24*unroll)
	a.op("ADDQ $%d, DX", 64*unroll)
	a.op("SUBQ $%d, CX", unroll)
	a.op("JGE four")
	a.label("rest")
	a.op("ADDQ $%d, CX", unroll)
	a.op("JZ store")
	a.label("one")
	step(0)
	a.op("ADDQ $24, AX")
	a.op("ADDQ $64, DX")
	a.op("DECQ CX")
	a.op("JNZ one")
	a.label("store")
	for i, r := range rows {
		a.op("VMOVUPS Y%d, %s", 2*i, r)
		a.op("VMOVUPS Y%d, 32%s", 2*i+1, r)
	}
	a.op("LEAQ (DI)(R11*2), DI")
	a.op("DECQ R9")
	a.op("JNZ panel")
	a.end()
}

// gemvAhead is how many bytes ahead of their use weights are fetched: the CPU by
// itself does not go on past the end of a page.
const gemvAhead = 1 << 10

// gemv takes four rows at a time, then one. In the last k%16 elements, lanes past
// the end keep their bits.
func gemv(a *asm) {
	a.fn("gemvRowsAVX2", "gemvRowsAVX2 is gemvRowsPortable; mask has k%16 lanes set. rows and k are at least 1.",
		arg{"dst", "*float32", "DI"}, arg{"w", "*float32", "R8"}, arg{"x", "*float32", "BX"},
		arg{"rows", "int", "R12"}, arg{"k", "int", "R13"}, arg{"mask", "*int32", "AX"})
	a.note("DI dst; R8..R11 rows of w; BX x; CX byte offset in the rows; DX bytes of whole groups of 16")
	a.note("Y0..Y7 lanes 0-7 and 8-15 of four rows; Y8, Y9 x; Y10, Y11 the mask; Y12, Y13 w and a step of the tail")
	a.op("VMOVUPS (AX), Y10")
	a.op("VMOVUPS 32(AX), Y11")
	a.op("MOVQ R13, DX")
	a.op("ANDQ $-16, DX")
	a.op("SHLQ $2, DX")
	a.op("SHLQ $2, R13")
	for _, n := range []int{4, 1} {
		name := fmt.Sprintf("rows%d", n)
		done := fmt.Sprintf("done%d", n)
		a.op("SUBQ $%d, R12", n)
		a.op("JLT %s", done)
		a.label(name)
		ptr := []string{"R8", "R9", "R10", "R11"}[:n]
		for i := 1; i < n; i++ {
			a.op("LEAQ (%s)(R13*1), %s", ptr[i-1], ptr[i])
		}
		for i := range 2 * n {
			a.op("VXORPS Y%d, Y%d, Y%d", i, i, i)
		}
		a.op("XORQ CX, CX")
		a.op("CMPQ CX, DX")
		a.op("JEQ %stail", name)
		a.label(name + "loop")
		a.op("VMOVUPS (BX)(CX*1), Y8")
		a.op("VMOVUPS 32(BX)(CX*1), Y9")
		for i, p := range ptr {
			a.op("PREFETCHT0 %d(%s)(CX*1)", gemvAhead, p)
			a.op("VFMADD231PS (%s)(CX*1), Y8, Y%d", p, 2*i)
			a.op("VFMADD231PS 32(%s)(CX*1), Y9, Y%d", p, 2*i+1)
		}
		a.op("ADDQ $64, CX")
		a.op("CMPQ CX, DX")
		a.op("JLT %sloop", name)
		a.label(name + "tail")
		a.op("CMPQ CX, R13")
		a.op("JEQ %ssum", name)
		a.op("VMASKMOVPS (BX)(CX*1), Y10, Y8")
		a.op("VMASKMOVPS 32(BX)(CX*1), Y11, Y9")
		for i, p := range ptr {
			for h := range 2 {
				at := []string{"", "32"}[h]
				a.op("VMASKMOVPS %s(%s)(CX*1), Y%d, Y12", at, p, 10+h)
				a.op("VMOVAPS Y%d, Y13", 2*i+h)
				a.op("VFMADD231PS Y12, Y%d, Y13", 8+h)
				a.op("VBLENDVPS Y%d, Y13, Y%d, Y%d", 10+h, 2*i+h, 2*i+h)
			}
		}
		a.label(name + "sum")
		a.note("the tree: lane l + lane l+8, +4, +2, +1")
		for i := range n {
			a.op("VADDPS Y%d, Y%d, Y%d", 2*i+1, 2*i, 2*i)
			a.op("VEXTRACTF128 $1, Y%d, X12", 2*i)
			a.op("VADDPS X12, X%d, X%d", 2*i, 2*i)
			a.op("VPERMILPS $0x0e, X%d, X12", 2*i)
			a.op("VADDPS X12, X%d, X%d", 2*i, 2*i)
			a.op("VMOVSHDUP X%d, X12", 2*i)
			a.op("VADDSS X12, X%d, X%d", 2*i, 2*i)
			a.op("VMOVSS X%d, %d(DI)", 2*i, 4*i)
		}
		a.op("ADDQ $%d, DI", 4*n)
		a.op("LEAQ (%s)(R13*1), R8", ptr[n-1])
		a.op("SUBQ $%d, R12", n)
		a.op("JGE %s", name)
		a.label(done)
		a.op("ADDQ $%d, R12", n)
	}
	a.end()
}

// packSix interleaves rows eight columns at a time.
func packSix(a *asm) {
	a.fn("packSixAVX2", "packSixAVX2 is interleavePortable for 6 rows and 8·groups columns. groups is at least 1.",
		arg{"dst", "*float32", "DI"}, arg{"x", "*float32", "SI"}, arg{"ldx", "int", "AX"}, arg{"width", "int", "R8"}, arg{"groups", "int", "CX"})
	a.note("DI dst; R8 bytes of a column of dst; SI row 0 of x; DX row 3; AX bytes of a row; CX groups left")
	a.note("Y0..Y5 eight elements of each row, then: Y6, Y7 rows 0-1, Y8, Y9 rows 2-3 and Y10, Y11 rows 4-5 in pairs;")
	a.note("the low half of a register holds columns 0-3, the high half columns 4-7; Y12..Y15 rows 0-3 of columns c and c+4")
	a.op("SHLQ $2, AX")
	a.op("SHLQ $2, R8")
	a.op("LEAQ (AX)(AX*2), DX")
	a.op("ADDQ SI, DX")
	a.label("group")
	for i, r := range []string{"(SI)", "(SI)(AX*1)", "(SI)(AX*2)", "(DX)", "(DX)(AX*1)", "(DX)(AX*2)"} {
		a.op("VMOVUPS %s, Y%d", r, i)
	}
	for i := range 3 {
		a.op("VUNPCKLPS Y%d, Y%d, Y%d", 2*i+1, 2*i, 6+2*i)
		a.op("VUNPCKHPS Y%d, Y%d, Y%d", 2*i+1, 2*i, 7+2*i)
	}
	for c := range 4 {
		a.op("VSHUFPS $%#x, Y%d, Y%d, Y%d", 0x44+0xaa*(c%2), 8+c/2, 6+c/2, 12+c)
	}
	for half := range 2 {
		for c := range 4 {
			move := []string{"VMOVLPS", "VMOVHPS"}[c%2]
			if half == 0 {
				a.op("VMOVUPS X%d, (DI)", 12+c)
			} else {
				a.op("VEXTRACTF128 $1, Y%d, (DI)", 12+c)
				if c%2 == 0 {
					a.op("VEXTRACTF128 $1, Y%d, X%d", 10+c/2, 10+c/2)
				}
			}
			a.op("%s X%d, 16(DI)", move, 10+c/2)
			a.op("ADDQ R8, DI")
		}
	}
	a.op("ADDQ $32, SI")
	a.op("ADDQ $32, DX")
	a.op("DECQ CX")
	a.op("JNZ group")
	a.end()
}

// packHead begins the loop over the taps: masks of the lanes inside the map in
// Y0 and Y1, BX the source, DX the destination, CX the channels.
func packHead(a *asm) {
	a.note("DI dst; SI src; R8 columns, then free; R9 taps; R10 taps left; R11 bytes of a plane; R12 bytes between rows of a tap")
	a.note("Y6 -1; Y8 h; Y9 w; Y10, Y11 y and Y12, Y13 x of the columns; Y0, Y1 lanes inside the map")
	a.op("VMOVD R11, X8")
	a.op("VPBROADCASTD X8, Y8")
	a.op("VMOVD AX, X9")
	a.op("VPBROADCASTD X9, Y9")
	a.op("VPCMPEQD Y6, Y6, Y6")
	a.op("IMULQ AX, R11")
	a.op("SHLQ $2, R11")
	a.op("SHLQ $6, R12")
	for i := range 4 {
		a.op("VMOVDQU %d(R8), Y%d", 128*(i/2)+32*(i%2), 10+i)
	}
}

func packTap(a *asm, run bool) {
	a.label("tap")
	a.op("VPBROADCASTD (R9), Y2")
	a.op("VPBROADCASTD 4(R9), Y3")
	for h := range 2 {
		a.op("VPADDD Y%d, Y2, Y4", 10+h)
		a.op("VPADDD Y%d, Y3, Y5", 12+h)
		a.op("VPCMPGTD Y6, Y4, Y%d", h)
		a.op("VPCMPGTD Y4, Y8, Y7")
		a.op("VPAND Y7, Y%d, Y%d", h, h)
		a.op("VPCMPGTD Y6, Y5, Y7")
		a.op("VPAND Y7, Y%d, Y%d", h, h)
		a.op("VPCMPGTD Y5, Y9, Y7")
		a.op("VPAND Y7, Y%d, Y%d", h, h)
	}
	a.op("MOVLQSX 8(R9), BX")
	if run {
		a.op("ADDQ R8, BX")
	}
	a.op("MOVLQSX 20(R9), CX")
	a.op("IMULQ R11, CX")
	a.op("LEAQ (CX)(BX*4), BX")
	a.op("ADDQ SI, BX")
	a.op("MOVLQSX 16(R9), DX")
	a.op("SHLQ $6, DX")
	a.op("ADDQ DI, DX")
	a.op("MOVLQSX 12(R9), CX")
}

func packEnd(a *asm) {
	a.op("ADDQ $24, R9")
	a.op("DECQ R10")
	a.op("JNZ tap")
	a.end()
}

var packArgs = []arg{
	{"dst", "*float32", "DI"},
	{"src", "*float32", "SI"},
	{"cols", "*columns", "R8"},
	{"taps", "*tap", "R9"},
	{"count", "int", "R10"},
	{"h", "int", "R11"},
	{"w", "int", "AX"},
	{"step", "int", "R12"},
}

func packRun(a *asm) {
	a.fn("packRunAVX2", "packRunAVX2 is packPortable for a run; count is the number of taps, merge is 0 or 1.\nWith merge, lanes inside the run must hold +0 before.",
		append(append([]arg{}, packArgs...), arg{"merge", "int", "R13"})...)
	packHead(a)
	a.op("MOVLQSX 256(R8), R8")
	packTap(a, true)
	a.op("TESTQ R13, R13")
	a.op("JNZ merge")
	for _, merge := range []bool{false, true} {
		name := "row"
		if merge {
			name = "merge"
		}
		a.label(name)
		a.op("VMASKMOVPS (BX), Y0, Y2")
		a.op("VMASKMOVPS 32(BX), Y1, Y3")
		if merge {
			a.op("VORPS (DX), Y2, Y2")
			a.op("VORPS 32(DX), Y3, Y3")
		}
		a.op("VMOVUPS Y2, (DX)")
		a.op("VMOVUPS Y3, 32(DX)")
		a.op("ADDQ R11, BX")
		a.op("ADDQ R12, DX")
		a.op("DECQ CX")
		a.op("JNZ %s", name)
		if !merge {
			a.op("JMP next")
		}
	}
	a.label("next")
	packEnd(a)
}

func packGather(a *asm) {
	a.fn("packGatherAVX2", "packGatherAVX2 is packPortable for columns anywhere; count is the number of taps.", packArgs...)
	packHead(a)
	a.note("Y14, Y15 offsets of the columns")
	a.op("VMOVDQU 256(R8), Y14")
	a.op("VMOVDQU 288(R8), Y15")
	packTap(a, false)
	a.label("row")
	for h := range 2 {
		a.op("VMOVDQA Y%d, Y%d", h, 2+h)
		a.op("VXORPS Y%d, Y%d, Y%d", 4+h, 4+h, 4+h)
		a.op("VGATHERDPS Y%d, (BX)(Y%d*4), Y%d", 2+h, 14+h, 4+h)
		a.op("VMOVUPS Y%d, %d(DX)", 4+h, 32*h)
	}
	a.op("ADDQ R11, BX")
	a.op("ADDQ R12, DX")
	a.op("DECQ CX")
	a.op("JNZ row")
	packEnd(a)
}

func depthwise(a *asm) {
	a.fn("depthwiseRowsAVX2", "depthwiseRowsAVX2 is depthwiseRowsPortable; mask has cols%16 lanes set. rows, cols and taps are at least 1.",
		arg{"dst", "*float32", "DI"}, arg{"src", "*float32", "SI"}, arg{"w", "*float32", "R8"}, arg{"off", "*int", "R9"},
		arg{"taps", "int", "R10"}, arg{"rows", "int", "R11"}, arg{"cols", "int", "R12"}, arg{"srcStep", "int", "R13"}, arg{"mask", "*int32", "AX"})
	a.note("DI dst; SI row of src; DX src at the current column; R8 w; R9 off; R10 taps; R11 rows left; R12 columns; R13 bytes of a row of src")
	a.note("BX columns left; CX tap; AX offset of the tap; Y0, Y1, Y5, Y6 sums; Y2 w; Y3, Y4 src of the tail; Y10, Y11 the mask")
	a.op("VMOVUPS (AX), Y10")
	a.op("VMOVUPS 32(AX), Y11")
	a.op("SHLQ $2, R13")
	a.label("row")
	a.op("MOVQ SI, DX")
	a.op("MOVQ R12, BX")
	a.op("SUBQ $32, BX")
	a.op("JLT half")
	for _, n := range []int{4, 2} {
		name := map[int]string{4: "wide", 2: "cols"}[n]
		sums := []int{0, 1, 5, 6}[:n]
		a.label(name)
		for _, y := range sums {
			a.op("VXORPS Y%[1]d, Y%[1]d, Y%[1]d", y)
		}
		a.op("XORQ CX, CX")
		a.label(name + "tap")
		a.op("MOVQ (R9)(CX*8), AX")
		a.op("VBROADCASTSS (R8)(CX*4), Y2")
		for i, y := range sums {
			a.op("VFMADD231PS %d(DX)(AX*4), Y2, Y%d", 32*i, y)
		}
		a.op("INCQ CX")
		a.op("CMPQ CX, R10")
		a.op("JLT %stap", name)
		for i, y := range sums {
			a.op("VMOVUPS Y%d, %d(DI)", y, 32*i)
		}
		a.op("ADDQ $%d, DI", 32*n)
		a.op("ADDQ $%d, DX", 32*n)
		if n == 4 {
			a.op("SUBQ $32, BX")
			a.op("JGE wide")
			a.label("half")
			a.op("ADDQ $16, BX")
			a.op("JLT tail")
			continue
		}
		a.op("SUBQ $16, BX")
	}
	a.label("tail")
	a.op("ADDQ $16, BX")
	a.op("JZ next")
	a.op("VXORPS Y0, Y0, Y0")
	a.op("VXORPS Y1, Y1, Y1")
	a.op("XORQ CX, CX")
	a.label("tailtap")
	a.op("MOVQ (R9)(CX*8), AX")
	a.op("VBROADCASTSS (R8)(CX*4), Y2")
	a.op("VMASKMOVPS (DX)(AX*4), Y10, Y3")
	a.op("VMASKMOVPS 32(DX)(AX*4), Y11, Y4")
	a.op("VFMADD231PS Y3, Y2, Y0")
	a.op("VFMADD231PS Y4, Y2, Y1")
	a.op("INCQ CX")
	a.op("CMPQ CX, R10")
	a.op("JLT tailtap")
	a.op("VMASKMOVPS Y0, Y10, (DI)")
	a.op("VMASKMOVPS Y1, Y11, 32(DI)")
	a.op("LEAQ (DI)(BX*4), DI")
	a.label("next")
	a.op("ADDQ R13, SI")
	a.op("DECQ R11")
	a.op("JNZ row")
	a.end()
}

// deal separates even and odd elements sixteen at a time.
func deal(a *asm) {
	a.fn("dealTwoAVX2", "dealTwoAVX2 is dealTwoPortable for 8·groups pairs. groups is at least 1.",
		arg{"even", "*float32", "DI"}, arg{"odd", "*float32", "DX"}, arg{"x", "*float32", "SI"}, arg{"groups", "int", "CX"})
	a.note("DI even; DX odd; SI x; CX groups left; Y0, Y1 elements 0-7 and 8-15;")
	a.note("Y2, Y3 even and odd ones, quarters in the order 0, 2, 1, 3")
	a.label("group")
	a.op("VMOVUPS (SI), Y0")
	a.op("VMOVUPS 32(SI), Y1")
	a.op("VSHUFPS $0x88, Y1, Y0, Y2")
	a.op("VSHUFPS $0xdd, Y1, Y0, Y3")
	a.op("VPERMPD $0xd8, Y2, Y2")
	a.op("VPERMPD $0xd8, Y3, Y3")
	a.op("VMOVUPS Y2, (DI)")
	a.op("VMOVUPS Y3, (DX)")
	a.op("ADDQ $64, SI")
	a.op("ADDQ $32, DI")
	a.op("ADDQ $32, DX")
	a.op("DECQ CX")
	a.op("JNZ group")
	a.end()
}

// elementwise writes the loops over whole slices: eight elements at a time in
// Y0, then one at a time in X0. DI dst, SI and DX the operands, CX elements left.
func elementwise(a *asm) {
	dst, n := arg{"dst", "*float32", "DI"}, arg{"n", "int", "CX"}
	lo, hi := arg{"lo", "float32", "Y2"}, arg{"hi", "float32", "Y3"}
	// VMAX gives its second source for a NaN or two zeros, so it is done both
	// ways: the two agree but for zeros, where AND prefers +0, and NaN.
	most := []string{
		"%[3]s (DX), %[2]s1",
		"VMAX%[1]s %[2]s1, %[2]s0, %[2]s2",
		"VMAX%[1]s %[2]s0, %[2]s1, %[2]s3",
		"VCMP%[1]s $3, %[2]s1, %[2]s0, %[2]s4", // all ones, a NaN, where either is NaN
		"VANDPS %[2]s3, %[2]s2, %[2]s2",
		"VORPS %[2]s4, %[2]s2, %[2]s0",
	}
	clamp := []string{"VMAX%[1]s %[2]s0, %[2]s2, %[2]s0", "VMIN%[1]s %[2]s0, %[2]s3, %[2]s0"}
	for _, f := range []struct {
		name, twin string
		args       []arg
		load       string   // operand loaded into register 0
		ops        []string // %[1]s PS or SS, %[2]s Y or X, %[3]s a move
	}{
		{"vecSubAVX2", "vecSubPortable", []arg{dst, {"x", "*float32", "SI"}, n}, "DI", []string{"VSUB%[1]s (SI), %[2]s0, %[2]s0"}},
		{"vecAddScaledAVX2", "vecAddScaledPortable", []arg{dst, {"x", "*float32", "SI"}, n, {"c", "float32", "Y1"}}, "DI", []string{"VFMADD231%[1]s (SI), %[2]s1, %[2]s0"}},
		{"vecAddAVX2", "vecAddPortable", []arg{dst, {"a", "*float32", "SI"}, {"b", "*float32", "DX"}, n}, "SI", []string{"VADD%[1]s (DX), %[2]s0, %[2]s0"}},
		{"vecMulAVX2", "vecMulPortable", []arg{dst, {"a", "*float32", "SI"}, {"b", "*float32", "DX"}, n}, "SI", []string{"VMUL%[1]s (DX), %[2]s0, %[2]s0"}},
		{"vecDivAVX2", "vecDivPortable", []arg{dst, {"a", "*float32", "SI"}, {"b", "*float32", "DX"}, n}, "SI", []string{"VDIV%[1]s (DX), %[2]s0, %[2]s0"}},
		{"vecMaxAVX2", "vecMaxPortable", []arg{dst, {"a", "*float32", "SI"}, {"b", "*float32", "DX"}, n}, "SI", most},
		{"vecClampAVX2", "vecClampPortable", []arg{dst, {"x", "*float32", "SI"}, n, lo, hi}, "SI", clamp},
		{
			"vecBiasClampAVX2", "vecBiasClampPortable",
			[]arg{dst, n, {"bias", "float32", "Y1"}, lo, hi},
			"DI",
			append([]string{"VADD%[1]s %[2]s1, %[2]s0, %[2]s0"}, clamp...),
		},
	} {
		a.fn(f.name, f.name+" is "+f.twin+" for n elements.", f.args...)
		if f.args[len(f.args)-1] == hi {
			a.note("Y1 bias, if any; Y2 lo; Y3 hi; the value is the second source, so that NaN stays")
		}
		move := func(kind, reg string, size int) {
			mov := map[string]string{"PS": "VMOVUPS", "SS": "VMOVSS"}[kind]
			a.op("%s (%s), %s0", mov, f.load, reg)
			for _, o := range f.ops {
				a.op(strings.NewReplacer("%[1]s", kind, "%[2]s", reg, "%[3]s", mov).Replace(o))
			}
			a.op("%s %s0, (DI)", mov, reg)
			for _, g := range f.args {
				if g.typ == "*float32" {
					a.op("ADDQ $%d, %s", size, g.reg)
				}
			}
		}
		a.op("SUBQ $8, CX")
		a.op("JLT rest")
		a.label("eight")
		move("PS", "Y", 32)
		a.op("SUBQ $8, CX")
		a.op("JGE eight")
		a.label("rest")
		a.op("ADDQ $8, CX")
		a.op("JZ end")
		a.label("one")
		move("SS", "X", 4)
		a.op("DECQ CX")
		a.op("JNZ one")
		a.label("end")
		a.end()
	}
}

// peak writes the yardstick of the benchmarks: a loop that does nothing but
// multiply and add, twelve independent chains deep.
func peak(a *asm) {
	a.fn("peakAVX2", "peakAVX2 does n rounds of 96 fused multiply-adds in registers, for benchmarks. n is at least 1.", arg{"n", "int", "CX"})
	a.note("Y0..Y11 sums; Y12, Y13 zero; CX rounds left")
	for i := range 14 {
		a.op("VXORPS Y%d, Y%d, Y%d", i, i, i)
	}
	a.label("loop")
	for i := range 12 {
		a.op("VFMADD231PS Y12, Y13, Y%d", i)
	}
	a.op("DECQ CX")
	a.op("JNZ loop")
	a.end()
}
