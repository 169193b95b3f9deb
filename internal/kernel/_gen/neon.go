package main

import "fmt"

// The routines for arm64. A tile has the shape that AVX2 gives it, so that both
// read the same panels: 6 rows of 16 are 24 of the 32 vector registers.

// fmla is Vd.4S += Vn.4S · Vm.S[lane], fused (FMLA by element, single precision:
// Arm ARM DDI 0487, C7.2). Go's assembler has only the form of two vectors.
func (a *asm) fmla(d, n, m, lane int) {
	word := 0x4f801000 | (lane&1)<<21 | m<<16 | (lane>>1)<<11 | n<<5 | d
	a.op("WORD $0x%08x // FMLA V%d.4S, V%d.4S, V%d.S[%d]", word, d, n, m, lane)
}

// registers lists four vector registers from the first on.
func registers(first int) string {
	return fmt.Sprintf("V%d.S4, V%d.S4, V%d.S4, V%d.S4", first, first+1, first+2, first+3)
}

func gemmNEON(a *asm) {
	a.fn("gemmTilesNEON", "gemmTilesNEON is gemmTilesPortable; first is 1 to start the chains at zero, else 0.\npanels and kc are at least 1.",
		arg{"c", "*float32", "R0"}, arg{"ldc", "int", "R1"}, arg{"a", "*float32", "R2"}, arg{"b", "*float32", "R3"},
		arg{"kc", "int", "R4"}, arg{"panels", "int", "R5"}, arg{"first", "int", "R6"})
	a.note("R0 c, row 0 of the tile; R1 bytes between rows; R2 a, runs on from panel to panel;")
	a.note("R3 b; R7 c at a row; R8 b at the current k; R9 steps left")
	a.note("V0..V23 the tile, four registers a row; V24..V27 a row of b; V28, V29 six elements")
	a.note("of a; V30, V31 the next six. The row of b for the next step is loaded a register")
	a.note("at a time, each as soon as its six products are done and 18 before it is needed:")
	a.note("a core that issues in order does not wait for it either.")
	eachRow := func(op string) {
		a.op("MOVD R0, R7")
		for i := range 6 {
			a.op(op, registers(4*i))
			a.op("ADD R1, R7")
		}
	}
	a.op("LSL $2, R1")
	a.label("panel")
	a.op("MOVD R3, R8")
	a.op("CBZ R6, load")
	for i := range 24 {
		a.op("VEOR V%d.B16, V%d.B16, V%d.B16", i, i, i)
	}
	a.op("B loaded")
	a.label("load")
	eachRow("VLD1 (R7), [%s]")
	a.label("loaded")
	a.op("VLD1.P 64(R8), [V24.S4, V25.S4, V26.S4, V27.S4]")
	a.op("VLD1.P 16(R2), [V28.S4]")
	a.op("VLD1.P 8(R2), [V29.S2]")
	a.op("SUBS $1, R4, R9")
	a.op("BEQ last")
	step := func(more bool) {
		for q := range 4 {
			for i := range 6 {
				a.fmla(4*i+q, 24+q, 28+i/4, i%4)
				if more && q == 0 && i == 1 {
					a.op("VLD1.P 16(R2), [V30.S4]")
				}
				if more && q == 0 && i == 3 {
					a.op("VLD1.P 8(R2), [V31.S2]")
				}
			}
			if more {
				a.op("VLD1.P 16(R8), [V%d.S4]", 24+q)
			}
		}
	}
	a.label("step")
	step(true)
	a.op("VMOV V30.B16, V28.B16")
	a.op("VMOV V31.B16, V29.B16")
	a.op("SUBS $1, R9")
	a.op("BNE step")
	a.label("last")
	step(false)
	eachRow("VST1 [%s], (R7)")
	a.op("MOVD R7, R0")
	a.op("SUBS $1, R5")
	a.op("BNE panel")
	a.op("RET")
}

// gemvNEON sums whole groups of 16 columns of one row or of four; what is left
// and the tree are Go's.
func gemvNEON(a *asm) {
	for _, f := range []struct {
		name, doc string
		rows      int
	}{
		{"gemvOneNEON", "gemvOneNEON fills the 16 lanes of one row of w, for whole groups of 16 columns.\ngroups is at least 1.", 1},
		{"gemvFourNEON", "gemvFourNEON fills the 16 lanes of each of four rows of w, stride elements apart.", 4},
	} {
		args := []arg{{"lanes", "*float32", "R0"}, {"w", "*float32", "R2"}, {"x", "*float32", "R1"}, {"groups", "int", "R6"}}
		if f.rows > 1 {
			args = append(args, arg{"stride", "int", "R7"})
		}
		a.fn(f.name, f.doc, args...)
		a.note("R0 lanes; R1 x; R2..R5 rows of w; R6 groups left")
		a.note("V0..V15 lanes, four registers a row; V16..V19 x; V20..V23 and V24..V27 w")
		if f.rows > 1 {
			a.op("LSL $2, R7")
			for r := 1; r < f.rows; r++ {
				a.op("ADD R7, R%d, R%d", 1+r, 2+r)
			}
		}
		for i := range 4 * f.rows {
			a.op("VEOR V%d.B16, V%d.B16, V%d.B16", i, i, i)
		}
		a.label("group")
		a.op("VLD1.P 64(R1), [V16.S4, V17.S4, V18.S4, V19.S4]")
		for r := range f.rows {
			w := 20 + 4*(r%2)
			a.op("VLD1.P 64(R%d), [%s]", 2+r, registers(w))
			for q := range 4 {
				a.op("VFMLA V%d.S4, V%d.S4, V%d.S4", 16+q, w+q, 4*r+q)
			}
		}
		a.op("SUBS $1, R6")
		a.op("BNE group")
		for r := range f.rows {
			a.op("VST1.P [%s], 64(R0)", registers(4*r))
		}
		a.op("RET")
	}
}
