package main

import "fmt"

// The products, elementwise operators and depthwise convolution for arm, in NEON
// of ARMv7 with the multiply-add of VFPv4. That NEON makes subnormal operands and
// results zero, but says so: it sets IDC and UFC in FPSCR (Arm ARM DDI 0406C,
// A2.7.5, and FPUnpack and FPRound in A2.7.8). So each routine computes a block
// in registers, looks at these flags, and returns before it stores a block that
// is not as IEEE 754 has it; such a block is VFP's or Go's to compute. Go's
// assembler has none of these instructions, so all are encoded (A7.4, A8.8).
// Registers are numbered as Q0..Q15.

// flushed are the bits IDC and UFC of FPSCR.
const flushed = 1<<7 | 1<<3

// double gives the encoding of register Q q in the fields whose upper bit is at
// high and whose lower four begin at low.
func double(q, high, low int) int { return 2*q>>4<<high | 2*q&15<<low }

// Instructions on four lanes, without their registers.
var quadWords = map[string]int{
	"VADD.F32": 0xf2000d40,
	"VSUB.F32": 0xf2200d40,
	"VMUL.F32": 0xf3000d50,
	"VMAX.F32": 0xf2000f40,
	"VCGT.F32": 0xf3200e40,
	"VFMA.F32": 0xf2000c50,
	"VAND":     0xf2000150,
	"VEOR":     0xf3000150,
	"VBIT":     0xf3200150,
}

// quad is Qd = Qn op Qm.
func (a *asm) quad(op string, d, n, m int) {
	a.op("WORD $0x%08x // %s Q%d, Q%d, Q%d", quadWords[op]|double(d, 22, 12)|double(n, 7, 16)|double(m, 5, 0), op, d, n, m)
}

// zeroQuads makes n registers from the first on +0.
func (a *asm) zeroQuads(first, n int) {
	for i := first; i < first+n; i++ {
		a.quad("VEOR", i, i, i)
	}
}

// How a load or store moves its base: not, past what it accessed, or, for every
// other number, by that register.
const (
	stay = 15
	past = 13
)

// vld1 loads one or two registers from the first on from Rt.
func (a *asm) vld1(first, n, t, move int) { a.single("VLD1.32", 0xf4200080, first, n, t, move) }

// vst1 is vld1 for storing.
func (a *asm) vst1(first, n, t, move int) { a.single("VST1.32", 0xf4000080, first, n, t, move) }

func (a *asm) single(name string, word, first, n, t, move int) {
	count := map[int]int{1: 0xa, 2: 0x2}[n]
	list := fmt.Sprintf("{D%d-D%d}", 2*first, 2*(first+n)-1)
	a.op("WORD $0x%08x // %s %s, [R%d]%s", word|double(first, 22, 12)|t<<16|count<<8|move, name, list, t, moves(move))
}

func moves(move int) string {
	switch move {
	case stay:
		return ""
	case past:
		return "!"
	}
	return fmt.Sprintf(", R%d", move)
}

// vdup fills Qd with the element at Rt, which moves past it.
func (a *asm) vdup(d, t int) {
	a.op("WORD $0x%08x // VLD1.32 {D%d[],D%d[]}, [R%d]!", 0xf4a00ca0|double(d, 22, 12)|t<<16|past, 2*d, 2*d+1, t)
}

// vdupCore fills Qd with Rt.
func (a *asm) vdupCore(d, t int) {
	a.op("WORD $0x%08x // VDUP.32 Q%d, R%d", 0xeea00b10|double(d, 7, 16)|t<<12, d, t)
}

// clearFlushed makes the flags zero.
func (a *asm) clearFlushed(t int) {
	a.vmrs(t)
	a.op("BIC $%#x, R%d", flushed, t)
	a.op("WORD $0x%08x // VMSR FPSCR, R%d", 0xeee10a10|t<<12, t)
}

// ifFlushed branches if one of the flags is set.
func (a *asm) ifFlushed(t int, label string) {
	a.vmrs(t)
	a.op("TST $%#x, R%d", flushed, t)
	a.op("BNE %s", label)
}

func (a *asm) vmrs(t int) { a.op("WORD $0x%08x // VMRS R%d, FPSCR", 0xeef10a10|t<<12, t) }

func gemmQuad(a *asm) {
	done := a.fn("gemmHalvesNEON", "gemmHalvesNEON is gemmTilesPortable for the first eight columns of the tiles; first is\n1 to start the chains at zero, else 0. panels and kc are at least 1. It returns how\nmany panels it did: at the next it met a subnormal number, and left it as it was.",
		arg{"c", "*float32", "R0"}, arg{"ldc", "int", "R1"}, arg{"a", "*float32", "R2"}, arg{"b", "*float32", "R3"},
		arg{"kc", "int", "R4"}, arg{"panels", "int", "R5"}, arg{"first", "int", "R6"}, arg{name: "done", typ: "int"})
	a.note("R0 c, row 0 of the tile; R1 bytes between rows; R2 a, runs on from panel to panel;")
	a.note("R3 b; R5 panels left; R7 c at a row; R8 b at the current k; R9 steps left; R12 bytes")
	a.note("between rows of b")
	a.note("Q0..Q11 the tile, two registers a row; Q12, Q13 b; Q14, Q15 elements of a, loaded two")
	a.note("rows ahead")
	eachRow := func(move func(first, n, t, move int)) {
		a.op("MOVW R0, R7")
		for i := range 6 {
			move(2*i, 2, 7, 1)
		}
	}
	a.op("MOVW R1<<2, R1")
	a.clearFlushed(12)
	a.op("MOVW $64, R12")
	a.label("panel")
	a.op("MOVW R3, R8")
	a.op("MOVW R4, R9")
	a.op("CMP $0, R6")
	a.op("BEQ load")
	a.zeroQuads(0, 12)
	a.op("B loaded")
	a.label("load")
	eachRow(a.vld1)
	a.label("loaded")
	row := func(i int) {
		a.quad("VFMA.F32", 2*i, 12, 14+i%2)
		a.quad("VFMA.F32", 2*i+1, 13, 14+i%2)
	}
	a.label("step")
	a.vld1(12, 2, 8, 12)
	a.vdup(14, 2)
	a.vdup(15, 2)
	for i := range 6 {
		row(i)
		if i < 4 {
			a.vdup(14+i%2, 2)
		}
	}
	a.op("SUB.S $1, R9")
	a.op("BNE step")
	a.ifFlushed(9, "stop")
	eachRow(a.vst1)
	a.op("MOVW R7, R0")
	a.op("SUB.S $1, R5")
	a.op("BNE panel")
	a.label("stop")
	a.op("MOVW panels+20(FP), R9")
	a.op("SUB R5, R9")
	a.op("MOVW R9, done+%d(FP)", done)
	a.op("RET")
}

func gemvQuad(a *asm) {
	ok := a.fn("gemvTwoNEON", "gemvTwoNEON fills the 16 lanes of each of two rows of w, stride elements apart, for\nwhole groups of 16 columns. groups is at least 1. It returns 0, and the lanes are\nundefined, if it met a subnormal number, else 1.",
		arg{"lanes", "*float32", "R0"}, arg{"w", "*float32", "R1"}, arg{"x", "*float32", "R2"}, arg{"groups", "int", "R3"},
		arg{"stride", "int", "R4"}, arg{name: "ok", typ: "int"})
	a.note("R0 lanes; R1, R4 rows of w; R2 x; R3 groups left; R5 ok; Q0..Q3, Q4..Q7 lanes;")
	a.note("Q8..Q11 x; Q12..Q15 w, each loaded four products ahead")
	a.op("ADD R4<<2, R1, R4")
	a.clearFlushed(5)
	a.zeroQuads(0, 8)
	rows := []int{1, 4}
	a.label("group")
	a.op("PLD 256(R1)")
	a.op("PLD 256(R4)")
	a.vld1(8, 2, 2, past)
	a.vld1(12, 2, rows[0], past)
	a.vld1(10, 2, 2, past)
	a.vld1(14, 2, rows[0], past)
	for r := range rows {
		for i := range 4 {
			a.quad("VFMA.F32", 4*r+i, 12+i, 8+i)
			if r == 0 && i%2 == 1 {
				a.vld1(12+i-1, 2, rows[1], past)
			}
		}
	}
	a.op("SUB.S $1, R3")
	a.op("BNE group")
	a.op("MOVW $0, R5")
	a.ifFlushed(3, "stop")
	for i := range 4 {
		a.vst1(2*i, 2, 0, past)
	}
	a.op("MOVW $1, R5")
	a.label("stop")
	a.op("MOVW R5, ok+%d(FP)", ok)
	a.op("RET")
}

// elementwiseQuad writes the loops over whole slices, 32 elements at a time in
// Q0..Q7. R0 dst, R1 and R2 the operands, R3 elements left.
func elementwiseQuad(a *asm) {
	dst, n := arg{"dst", "*float32", "R0"}, arg{"n", "int", "R3"}
	first, second := arg{"a", "*float32", "R1"}, arg{"b", "*float32", "R2"}
	x, lo, hi := arg{"x", "*float32", "R1"}, arg{"lo", "float32", "R4"}, arg{"hi", "float32", "R5"}
	binary := func(op string) func() {
		return func() {
			for i := range 8 {
				a.quad(op, i, i, 8+i)
			}
		}
	}
	// VMAX and VMIN would make +0 of a -0 at a bound of +0. Steps are done one
	// after the other, each for four registers, so that none waits for the last.
	clamp := func() {
		for h := 0; h < 8; h += 4 {
			for i := range 4 {
				a.quad("VCGT.F32", 8+i, 14, h+i)
			}
			for i := range 4 {
				a.quad("VBIT", h+i, 14, 8+i)
			}
			for i := range 4 {
				a.quad("VCGT.F32", 8+i, h+i, 15)
			}
			for i := range 4 {
				a.quad("VBIT", h+i, 15, 8+i)
			}
		}
	}
	for _, f := range []struct {
		name string
		args []arg
		in   []int // registers of the operands, loaded into Q0.. and Q8..
		all  []int // arguments for all lanes, in Q13..Q15
		do   func()
	}{
		{"vecSub", []arg{dst, x, n}, []int{0, 1}, nil, binary("VSUB.F32")},
		{"vecAdd", []arg{dst, first, second, n}, []int{1, 2}, nil, binary("VADD.F32")},
		{"vecMul", []arg{dst, first, second, n}, []int{1, 2}, nil, binary("VMUL.F32")},
		{"vecMax", []arg{dst, first, second, n}, []int{1, 2}, nil, binary("VMAX.F32")},
		{"vecClamp", []arg{dst, x, n, lo, hi}, []int{1}, []int{4, 5}, clamp},
		{
			"vecBiasClamp",
			[]arg{dst, n, {"bias", "float32", "R6"}, lo, hi},
			[]int{0},
			[]int{6, 4, 5},
			func() {
				for i := range 8 {
					a.quad("VADD.F32", i, i, 13)
				}
				clamp()
			},
		},
	} {
		done := a.fn(f.name+"NEON", f.name+"NEON is "+f.name+"Portable for whole blocks of 32 of n elements. It returns how\nmany elements it did: in the next 32 it met a subnormal number.",
			append(f.args, arg{name: "done", typ: "int"})...)
		for i, r := range f.all {
			a.vdupCore(16-len(f.all)+i, r)
		}
		a.clearFlushed(12)
		a.op("MOVW $0, R7")
		a.op("B next")
		a.label("block")
		for i, r := range f.in {
			for h := range 4 {
				from, move := r, past
				if r == 0 { // dst is stored to yet
					from = 8
					if h == 0 {
						a.op("MOVW R0, R8")
					}
				}
				a.vld1(8*i+2*h, 2, from, move)
			}
		}
		f.do()
		a.ifFlushed(12, "stop")
		for h := range 4 {
			a.vst1(2*h, 2, 0, past)
		}
		a.op("ADD $32, R7")
		a.label("next")
		a.op("SUB.S $32, R3")
		a.op("BGE block")
		a.label("stop")
		a.op("MOVW R7, done+%d(FP)", done)
		a.op("RET")
	}
}

// depthwiseQuad computes a row sixteen columns at a time, then four. Where
// columns run out, the last four are moved back and some computed again.
func depthwiseQuad(a *asm) {
	ok := a.fn("depthwiseRowNEON", "depthwiseRowNEON is depthwiseRowsPortable for one row of at least 4 columns. taps is at\nleast 1. It returns 0, and the row is undefined, if it met a subnormal number, else 1.",
		arg{"dst", "*float32", "R0"}, arg{"src", "*float32", "R1"}, arg{"w", "*float32", "R2"}, arg{"off", "*int", "R3"},
		arg{"taps", "int", "R4"}, arg{"cols", "int", "R5"}, arg{name: "ok", typ: "int"})
	a.note("R0 dst; R1 src; R2 w; R3 off; R4 taps; R5 columns left; R6 w, R7 off and R8 taps left at")
	a.note("the tap; R9 src there; Q0..Q3 sums; Q4..Q7 src; Q8 w")
	a.clearFlushed(12)
	a.op("MOVW $0, R12")
	for _, block := range []struct {
		name string
		n    int
	}{{"sixteen", 16}, {"four", 4}} {
		n := block.n / 4
		a.op("SUB.S $%d, R5", block.n)
		a.op("BLT past%s", block.name)
		a.label(block.name)
		a.zeroQuads(0, n)
		a.op("MOVW R2, R6")
		a.op("MOVW R3, R7")
		a.op("MOVW R4, R8")
		a.label(block.name + "tap")
		a.op("MOVW.P 4(R7), R9")
		a.vdup(8, 6)
		a.op("ADD R9<<2, R1, R9")
		for i := 0; i < n; i += 2 {
			a.vld1(4+i, min(2, n), 9, past)
		}
		for i := range n {
			a.quad("VFMA.F32", i, 4+i, 8)
		}
		a.op("SUB.S $1, R8")
		a.op("BNE %stap", block.name)
		for i := 0; i < n; i += 2 {
			a.vst1(i, min(2, n), 0, past)
		}
		a.op("ADD $%d, R1", 4*block.n)
		a.op("SUB.S $%d, R5", block.n)
		a.op("BGE %s", block.name)
		a.label("past" + block.name)
		a.op("ADD $%d, R5", block.n)
	}
	a.op("CMP $0, R5")
	a.op("BEQ end")
	a.op("SUB $4, R5")
	a.op("ADD R5<<2, R0")
	a.op("ADD R5<<2, R1")
	a.op("MOVW $0, R5")
	a.op("B four")
	a.label("end")
	a.ifFlushed(9, "stop")
	a.op("MOVW $1, R12")
	a.label("stop")
	a.op("MOVW R12, ok+%d(FP)", ok)
	a.op("RET")
}

// peakQuad writes the yardstick of the benchmarks, twelve independent chains deep.
func peakQuad(a *asm) {
	a.fn("peakNEON", "peakNEON does n rounds of 96 fused multiply-adds in registers, for benchmarks. n is at least 1.", arg{"n", "int", "R0"})
	a.note("Q0..Q11 sums; Q12, Q13 zero; R0 rounds left")
	a.zeroQuads(0, 14)
	a.label("loop")
	for i := range 24 {
		a.quad("VFMA.F32", i%12, 12, 13)
	}
	a.op("SUB.S $1, R0")
	a.op("BNE loop")
	a.op("RET")
}
