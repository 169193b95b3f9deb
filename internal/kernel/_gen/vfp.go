package main

// The products for arm, in VFPv4, which multiplies and adds single elements and
// keeps subnormal numbers, which NEON of ARMv7 makes zero.
// Go's assembler reaches only half of the 32 registers, so all is encoded (Arm
// ARM DDI 0406C, A8.8). Registers S are numbered with their lowest bit apart.

// vfma is Sd += Sn · Sm, fused (VFMA.F32).
func (a *asm) vfma(d, n, m int) {
	word := 0xeea00a00 | d&1<<22 | n>>1<<16 | d>>1<<12 | n&1<<7 | m&1<<5 | m>>1
	a.op("WORD $0x%08x // VFMA.F32 S%d, S%d, S%d", word, d, n, m)
}

// vmov is Sd = Rt.
func (a *asm) vmov(d, t int) {
	a.op("WORD $0x%08x // VMOV S%d, R%d", 0xee000a10|d>>1<<16|t<<12|d&1<<7, d, t)
}

// vldm loads n registers from the first on from Rt, which moves past them if
// next.
func (a *asm) vldm(t, first, n int, next bool) { a.multiple("VLDMIA", 0xec900a00, t, first, n, next) }

// vstm is vldm for storing.
func (a *asm) vstm(t, first, n int, next bool) { a.multiple("VSTMIA", 0xec800a00, t, first, n, next) }

func (a *asm) multiple(name string, word, t, first, n int, next bool) {
	mark := ""
	if next {
		word, mark = word|1<<21, "!"
	}
	a.op("WORD $0x%08x // %s R%d%s, {S%d-S%d}", word|first&1<<22|t<<16|first>>1<<12|n, name, t, mark, first, first+n-1)
}

func gemmVFP(a *asm) {
	a.fn("gemmQuadsVFP", "gemmQuadsVFP is gemmTilesPortable for the first four columns of the tiles; first is 1\nto start the chains at zero, else 0. panels and kc are at least 1.",
		arg{"c", "*float32", "R0"}, arg{"ldc", "int", "R1"}, arg{"a", "*float32", "R2"}, arg{"b", "*float32", "R3"},
		arg{"kc", "int", "R4"}, arg{"panels", "int", "R5"}, arg{"first", "int", "R6"})
	a.note("R0 c, row 0 of the tile; R1 bytes between rows; R2 a, runs on from panel to panel;")
	a.note("R3 b; R7 c at a row; R8 b at the current k; R9 steps left")
	a.note("S0..S23 the tile, four registers a row; S24..S27 b; S28..S31 a, of which the first")
	a.note("two are loaded again for rows 4 and 5 while rows 2 and 3 compute")
	a.op("MOVW R1<<2, R1")
	a.label("panel")
	a.op("MOVW R3, R8")
	a.op("MOVW R4, R9")
	a.op("MOVW R0, R7")
	a.op("CMP $0, R6")
	a.op("BEQ load")
	a.op("MOVW $0, R12")
	for i := range 24 {
		a.vmov(i, 12)
	}
	a.op("B step")
	a.label("load")
	for i := range 6 {
		a.vldm(7, 4*i, 4, false)
		a.op("ADD R1, R7")
	}
	a.label("step")
	row := func(i, s int) {
		for j := range 4 {
			a.vfma(4*i+j, 24+j, s)
		}
	}
	a.vldm(8, 24, 4, false)
	a.vldm(2, 28, 4, true)
	row(0, 28)
	row(1, 29)
	a.vldm(2, 28, 2, true)
	row(2, 30)
	row(3, 31)
	a.op("ADD $64, R8")
	row(4, 28)
	row(5, 29)
	a.op("SUB.S $1, R9")
	a.op("BNE step")
	a.op("MOVW R0, R7")
	for i := range 6 {
		a.vstm(7, 4*i, 4, false)
		a.op("ADD R1, R7")
	}
	a.op("MOVW R7, R0")
	a.op("SUB.S $1, R5")
	a.op("BNE panel")
	a.op("RET")
}

func gemvVFP(a *asm) {
	a.fn("gemvOneVFP", "gemvOneVFP fills the 16 lanes of one row of w, for whole groups of 16 columns.\ngroups is at least 1.",
		arg{"lanes", "*float32", "R0"}, arg{"w", "*float32", "R1"}, arg{"x", "*float32", "R2"}, arg{"groups", "int", "R3"})
	a.note("R0 lanes; R1 w; R2 x; R3 groups left; S0..S15 lanes; S16..S23 w; S24..S31 x")
	a.op("MOVW $0, R4")
	for i := range 16 {
		a.vmov(i, 4)
	}
	a.label("group")
	a.op("PLD 256(R1)")
	for h := range 2 {
		a.vldm(1, 16, 8, true)
		a.vldm(2, 24, 8, true)
		for i := range 8 {
			a.vfma(8*h+i, 16+i, 24+i)
		}
	}
	a.op("SUB.S $1, R3")
	a.op("BNE group")
	a.vstm(0, 0, 16, false)
	a.op("RET")
}

// rowsVFP writes what adds products to a row, of elements and of all by one.
func rowsVFP(a *asm) {
	a.fn("addProductsVFP", "addProductsVFP adds w·x to dst, element by element, fused. n is at least 1.",
		arg{"dst", "*float32", "R0"}, arg{"w", "*float32", "R1"}, arg{"x", "*float32", "R2"}, arg{"n", "int", "R3"})
	a.note("R0 dst; R1 w; R2 x; R3 elements left; S0 dst; S2 w; S4 x")
	a.label("one")
	a.vldm(0, 0, 1, false)
	a.vldm(1, 2, 1, true)
	a.vldm(2, 4, 1, true)
	a.vfma(0, 2, 4)
	a.vstm(0, 0, 1, true)
	a.op("SUB.S $1, R3")
	a.op("BNE one")
	a.op("RET")

	a.fn("addScaledVFP", "addScaledVFP adds w·x to dst, fused, for n elements.",
		arg{"dst", "*float32", "R0"}, arg{"x", "*float32", "R1"}, arg{"n", "int", "R2"}, arg{"w", "float32", "R3"})
	a.note("R0 dst; R1 x; R2 elements left; S0..S7 dst; S8..S15 x; S16 w")
	a.vmov(16, 3)
	for _, block := range []struct {
		name string
		n    int
	}{{"eight", 8}, {"one", 1}} {
		a.op("SUB.S $%d, R2", block.n)
		a.op("BLT past%s", block.name)
		a.label(block.name)
		a.vldm(0, 0, block.n, false)
		a.vldm(1, 8, block.n, true)
		for i := range block.n {
			a.vfma(i, 8+i, 16)
		}
		a.vstm(0, 0, block.n, true)
		a.op("SUB.S $%d, R2", block.n)
		a.op("BGE %s", block.name)
		a.label("past" + block.name)
		a.op("ADD $%d, R2", block.n)
	}
	a.op("RET")
}
