package main

import "fmt"

// The products for arm64. A tile has the shape that AVX2 gives it, so that both
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

// zero makes n vector registers from the first on +0.
func (a *asm) zero(first, n int) {
	for i := first; i < first+n; i++ {
		a.op("VEOR V%d.B16, V%d.B16, V%d.B16", i, i, i)
	}
}

// gemmNEON writes the product for cores that issue as operands become ready, and
// by halves one for cores that issue in order: those stand still for two cycles for
// a load of 128 bits, but load 64 beside a product: a Cortex-A55 into any register,
// an A53 into a core register, and there a load of 64 bits into a vector takes a
// cycle, in which one is inserted too (ncnn, arm-a53-a55-dual-issue.md).
func gemmNEON(a *asm, name string, halves bool) {
	a.fn(name, name+" is gemmTilesPortable; first is 1 to start the chains at zero, else 0.\npanels and kc are at least 1.",
		arg{"c", "*float32", "R0"}, arg{"ldc", "int", "R1"}, arg{"a", "*float32", "R2"}, arg{"b", "*float32", "R3"},
		arg{"kc", "int", "R4"}, arg{"panels", "int", "R5"}, arg{"first", "int", "R6"})
	a.note("R0 c, row 0 of the tile; R1 bytes between rows; R2 a, runs on from panel to panel;")
	a.note("R3 b; R7 c at a row; R8 b at the current k; R9 pairs of steps left")
	a.note("V0..V23 the tile, four registers a row; V24..V27 a row of b; V28, V29, V30 the")
	a.note("twelve elements of a for two steps.")
	a.note("Two steps are 48 products and 11 loads, spread: one load to four or five products.")
	a.note("A register is loaded for the next step as soon as its last product is issued, and")
	a.note("is needed 18 products later (8 for V29, of which both steps use a half), so that a")
	a.note("core that issues in order does not wait for it, and one that does not has a load")
	a.note("and a product for every cycle. Offsets are constant, since an updated address is")
	a.note("ready late on some of these cores.")
	if halves {
		a.note("A load is of two halves, each beside a product, the second by way of R10..R15 in turn;")
		a.note("it is put in its place beside the next load.")
	}
	// load fills V v, now or, by halves, after the next products.
	var pieces []func()
	insert, core := func() {}, 0
	load := func(offset int, base string, v int) {
		if !halves {
			a.op("FMOVQ %d(%s), F%d", offset, base, v)
			return
		}
		r := 10 + core%6
		core++
		pieces = append(pieces,
			func() {
				a.op("FMOVD %d(%s), F%d", offset, base, v)
				insert()
			},
			func() {
				a.op("MOVD %d(%s), R%d", offset+8, base, r)
				insert = func() { a.op("VMOV R%d, V%d.D[1]", r, v) }
			})
	}
	drain := func(most int) {
		n := min(most, len(pieces))
		for _, piece := range pieces[:n] {
			piece()
		}
		pieces = pieces[n:]
	}
	finish := func() {
		drain(len(pieces))
		insert()
		insert = func() {}
	}
	eachRow := func(op string) {
		a.op("MOVD R0, R7")
		for i := range 6 {
			a.op(op, registers(4*i))
			a.op("ADD R1, R7")
		}
	}
	// product is row i of the tile in columns 4q to 4q+3; i + at is where its
	// element of a lies in V28..V30.
	product := func(i, q, at int) {
		a.fmla(4*i+q, 24+q, 28+(i+at)/4, (i+at)%4)
		drain(1)
	}
	// pair is two steps. Unless another follows, the second loads nothing.
	pair := func(more bool) {
		for q := range 4 {
			for i := range 6 {
				product(i, q, 0)
				if q == 0 && i == 2 {
					load(32, "R2", 30)
				}
			}
			load(64+16*q, "R8", 24+q)
		}
		if !more {
			finish()
		}
		for q := range 4 {
			for i := range 6 {
				product(i, q, 6)
				if more && q == 0 && i == 2 {
					load(48, "R2", 28)
				}
				if more && q == 3 && i == 1 {
					load(64, "R2", 29)
				}
			}
			if more {
				load(128+16*q, "R8", 24+q)
			}
		}
		finish()
		a.op("ADD $48, R2")
		a.op("ADD $128, R8")
	}
	a.op("LSL $2, R1")
	a.label("panel")
	a.op("MOVD R3, R8")
	a.op("CBZ R6, load")
	a.zero(0, 24)
	a.op("B loaded")
	a.label("load")
	eachRow("VLD1 (R7), [%s]")
	a.label("loaded")
	a.op("LSR $1, R4, R9")
	a.op("CBZ R9, odd")
	a.op("VLD1 (R8), [%s]", registers(24))
	a.op("VLD1 (R2), [V28.S4, V29.S4]")
	a.op("SUBS $1, R9")
	a.op("BEQ last")
	a.label("pair")
	pair(true)
	a.op("SUBS $1, R9")
	a.op("BNE pair")
	a.label("last")
	pair(false)
	a.label("odd")
	a.op("TBZ $0, R4, store")
	a.op("VLD1 (R8), [%s]", registers(24))
	a.op("VLD1.P 16(R2), [V28.S4]")
	a.op("VLD1.P 8(R2), [V29.S2]")
	for q := range 4 {
		for i := range 6 {
			product(i, q, 0)
		}
	}
	a.label("store")
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
		a.note("R0 lanes; R1 x; R2..R5 rows of w; R6 groups left; V0..V15 lanes, four registers a")
		a.note("row; V16..V19 x; V20..V31 w. Weights come from memory once: they are asked for")
		a.note("eight groups ahead, and a group's loads run four ahead of its products.")
		if f.rows > 1 {
			a.op("LSL $2, R7")
			for r := 1; r < f.rows; r++ {
				a.op("ADD R7, R%d, R%d", 1+r, 2+r)
			}
		}
		a.zero(0, 4*f.rows)
		a.label("group")
		for r := range f.rows {
			a.op("PRFM 512(R%d), PLDL1STRM", 2+r)
		}
		// Registers V20..V31 are taken in turn.
		load := func(i int) { a.op("FMOVQ %d(R%d), F%d", 16*(i%4), 2+i/4, 20+i%12) }
		const ahead = 4
		for i := range ahead {
			a.op("FMOVQ %d(R1), F%d", 16*i, 16+i)
			load(i)
		}
		for i := range 4 * f.rows {
			if i+ahead < 4*f.rows {
				load(i + ahead)
			}
			a.op("VFMLA V%d.S4, V%d.S4, V%d.S4", 16+i%4, 20+i%12, i)
		}
		a.op("ADD $64, R1")
		for r := range f.rows {
			a.op("ADD $64, R%d", 2+r)
		}
		a.op("SUBS $1, R6")
		a.op("BNE group")
		for r := range f.rows {
			a.op("VST1.P [%s], 64(R0)", registers(4*r))
		}
		a.op("RET")
	}
}

// peakNEON writes the yardstick of the benchmarks, 24 independent chains deep.
func peakNEON(a *asm) {
	a.fn("peakNEON", "peakNEON does n rounds of 96 fused multiply-adds in registers, for benchmarks. n is at least 1.", arg{"n", "int", "R0"})
	a.note("V0..V23 sums; V24, V25 zero; R0 rounds left")
	a.zero(0, 26)
	a.label("loop")
	for i := range 24 {
		a.op("VFMLA V24.S4, V25.S4, V%d.S4", i)
	}
	a.op("SUBS $1, R0, R0")
	a.op("BNE loop")
	a.op("RET")
}
