package main

import (
	"fmt"
	"math"
	"strings"
)

// The routines for amd64 with AVX-512 (F, BW, DQ, VL). Lanes that do not exist
// are masked: nothing is read or written there.

// gemm512 computes twelve rows at a time and then eight or four; a column panel
// is two registers wide, of which the second is left alone where it is empty.
func gemm512(a *asm) {
	a.fn("gemmTilesAVX512", "gemmTilesAVX512 is gemmTilesPortable for tiles of 12×32; mask has a bit for each column, first is 1\nto start the chains at zero, else 0. m is a multiple of 4, and m, kc and the columns are at least 1. end is nil or follows, and is changed.\nWhat lies at ahead is fetched into the second cache, 32 bytes for each k and 12 rows or fewer.",
		arg{"c", "*float32", "DI"}, arg{"ldc", "int", "SI"}, arg{"a", "*float32", "AX"}, arg{"b", "*float32", "BX"},
		arg{"kc", "int", "R8"}, arg{"m", "int", "R9"}, arg{"first", "int", "CX"}, arg{"mask", "int", "DX"}, arg{"end", "*ending", "R14"}, arg{"ahead", "*float32", "R10"})
	tileNotes512(a)
	a.note("BX b; DX b at the current k; R8 kc; R9 rows left; R10 ahead")
	a.op("KMOVW DX, K1")
	a.op("SHRQ $16, DX")
	a.op("KMOVW DX, K2")
	a.op("SHLQ $2, SI")
	a.op("LEAQ (SI)(SI*2), R11")
	a.op("TESTQ DX, DX")
	a.op("JZ narrow")
	for vectors := 2; vectors > 0; vectors-- {
		next := fmt.Sprintf("rows%d", vectors)
		if vectors == 1 {
			a.label("narrow")
		}
		a.label(next)
		a.op("CMPQ R9, $12")
		a.op("JGE tile12x%d", vectors)
		a.op("CMPQ R9, $8")
		a.op("JGE tile8x%d", vectors)
		a.op("CMPQ R9, $4")
		a.op("JGE tile4x%d", vectors)
		a.end()
		for rows := 12; rows > 0; rows -= 4 {
			tile512(a, rows, vectors, false, false)
			a.op("SUBQ $%d, R9", rows)
			a.op("JMP %s", next)
		}
	}
}

// gemmPack512 writes one tile of gemm512 with the packing of its panel in it, which
// the ports for writing do meanwhile: for panels inside the map, and for others.
func gemmPack512(a *asm) {
	for _, masked := range []bool{false, true} {
		name, doc := "gemmPackAVX512", "gemmPackAVX512 is gemmPackPortable for tiles of 12×32 and panels without masks, and end, which is nil or follows and is changed."
		args := []arg{
			{"c", "*float32", "DI"}, {"ldc", "int", "SI"}, {"a", "*float32", "AX"}, {"x", "*float32", "BX"},
			{"kc", "int", "R8"}, {"packed", "*float32", "R10"}, {"first", "int", "CX"}, {"starts", "*int32", "DX"},
			{"end", "*ending", "R14"}, {"at", "int", "R11"},
		}
		if masked {
			name, doc = "gemmPackMaskedAVX512", "gemmPackMaskedAVX512 is gemmPackAVX512 for panels with masks."
			args = append(args, arg{"masks", "*uint32", "R9"})
		}
		a.fn(name, doc, args...)
		tileNotes512(a)
		a.note("BX x; DX starts at the current k; R8 where the row begins; R10 packed at the current k; R9 masks, K3 and K4, at the current k")
		a.op("LEAQ (BX)(R11*4), BX")
		a.op("KXNORW K1, K1, K1")
		a.op("KXNORW K2, K2, K2")
		a.op("SHLQ $2, SI")
		a.op("LEAQ (SI)(SI*2), R11")
		tile512(a, 12, 2, true, masked)
		a.end()
	}
}

func tileNotes512(a *asm) {
	a.note("DI c, row 0 of the tile; R12, R13, R15 rows 3, 6, 9; SI bytes between rows; R11 three rows")
	a.note("AX a, runs on from panel to panel; CX steps left; R14 end")
	a.note("Z0..Z23 the tile, two registers a row; Z24, Z25 a row of b; Z26..Z31 elements of a; K1, K2 columns that exist")
}

func tile512(a *asm, rows, vectors int, packs, masked bool) {
	name := fmt.Sprintf("%dx%d", rows, vectors)
	at := func(i int) string {
		return "(" + []string{"DI", "R12", "R13", "R15"}[i/3] + ")" + []string{"", "(SI*1)", "(SI*2)"}[i%3]
	}
	each := func(f func(i, v int)) {
		for i := range rows {
			for v := range vectors {
				f(i, v)
			}
		}
	}
	a.label("tile" + name)
	a.op("LEAQ (DI)(R11*1), R12")
	a.op("LEAQ (DI)(R11*2), R13")
	a.op("LEAQ (R12)(R11*2), R15")
	a.op("TESTQ R14, R14")
	a.op("JZ alone" + name)
	a.op("MOVQ 24(R14), DX")
	a.op("TESTQ DX, DX")
	a.op("JZ alone" + name)
	for range rows {
		for v := range vectors {
			a.op("PREFETCHT0 %d(DX)", 64*v)
		}
		a.op("ADDQ SI, DX")
	}
	a.label("alone" + name)
	kc, bytes, ahead := "R8", 128, 32 // of DX and R10 for each k
	if packs {
		kc, bytes, ahead = "kc+32(FP)", 4, 128
		a.op("MOVQ starts+56(FP), DX")
	} else {
		a.op("MOVQ BX, DX")
	}
	a.op("CMPQ first+48(FP), $0")
	a.op("JEQ load" + name)
	each(func(i, v int) { a.op("VPXORD Z%[1]d, Z%[1]d, Z%[1]d", 2*i+v) })
	each(func(i, v int) { a.op("PREFETCHT0 %s%s", []string{"", "64"}[v], at(i)) })
	a.op("JMP loaded" + name)
	a.label("load" + name)
	each(func(i, v int) { a.op("VMOVUPS.Z %s%s, K%d, Z%d", []string{"", "64"}[v], at(i), 1+v, 2*i+v) })
	a.label("loaded" + name)
	const unroll = 4
	step := func(u int) {
		if packs {
			a.op("MOVLQSX %d(DX), R8", 4*u)
			a.op("PREFETCHT0 %d(BX)(R8*4)", 128+64*(u%2))
		}
		for v := range vectors {
			switch {
			case masked:
				a.op("KMOVW %d(R9), K%d", 4*u+2*v, 3+v)
				a.op("VMOVUPS.Z %d(BX)(R8*4), K%d, Z%d", 64*v, 3+v, 24+v)
			case packs:
				a.op("VMOVUPS %d(BX)(R8*4), Z%d", 64*v, 24+v)
			default:
				a.op("VMOVUPS %d(DX), Z%d", 128*u+64*v, 24+v)
			}
			if packs {
				a.op("VMOVUPS Z%d, %d(R10)", 24+v, 128*u+64*v)
			}
		}
		for i := range rows {
			// Broadcasting within the product takes fewer instructions, which a core
			// whose other thread is busy is short of, but reads once more. Half and half
			// is best.
			if vectors == 2 && i%2 == 0 {
				z := 26 + i/2
				a.op("VBROADCASTSS %d(AX), Z%d", 48*u+4*i, z)
				a.op("VFMADD231PS Z24, Z%d, Z%d", z, 2*i)
				a.op("VFMADD231PS Z25, Z%d, Z%d", z, 2*i+1)
				continue
			}
			for v := range vectors {
				a.op("VFMADD231PS.BCST %d(AX), Z%d, Z%d", 48*u+4*i, 24+v, 2*i+v)
			}
		}
	}
	a.op("MOVQ %s, CX", kc)
	a.op("SUBQ $%d, CX", unroll)
	a.op("JLT rest" + name)
	a.label("four" + name)
	for u := range unroll {
		if u%2 == 0 && !packs {
			a.op("PREFETCHT1 %d(R10)", 32*u)
		}
		step(u)
	}
	a.op("ADDQ $%d, R10", ahead*unroll)
	if masked {
		a.op("ADDQ $%d, R9", 4*unroll)
	}
	a.op("ADDQ $%d, AX", 48*unroll)
	a.op("ADDQ $%d, DX", bytes*unroll)
	a.op("SUBQ $%d, CX", unroll)
	a.op("JGE four" + name)
	a.label("rest" + name)
	a.op("ADDQ $%d, CX", unroll)
	a.op("JZ store" + name)
	a.label("one" + name)
	step(0)
	a.op("ADDQ $48, AX")
	a.op("ADDQ $%d, DX", bytes)
	if packs {
		a.op("ADDQ $%d, R10", ahead)
	}
	if masked {
		a.op("ADDQ $4, R9")
	}
	a.op("DECQ CX")
	a.op("JNZ one" + name)
	a.label("store" + name)
	a.note("CX bias; DX what is added; Z26, Z27 these, one row at a time; Z30, Z31 the bounds")
	a.op("TESTQ R14, R14")
	a.op("JZ sum" + name)
	a.op("MOVQ (R14), CX")
	a.op("VBROADCASTSS 48(R14), Z30")
	a.op("VBROADCASTSS 52(R14), Z31")
	for i := range rows {
		a.op("VBROADCASTSS %d(CX), Z26", 4*i)
		for v := range vectors {
			a.op("VADDPS Z26, Z%[1]d, Z%[1]d", 2*i+v)
		}
	}
	a.op("ADDQ $%d, (R14)", 4*rows)
	a.op("MOVQ 24(R14), DX")
	a.op("TESTQ DX, DX")
	a.op("JZ clamp" + name)
	for i := range rows {
		for v := range vectors {
			a.op("VMOVUPS.Z %d(DX), K%d, Z%d", 64*v, 1+v, 26+v)
			a.op("VADDPS Z%d, Z%[2]d, Z%[2]d", 26+v, 2*i+v)
		}
		a.op("ADDQ SI, DX")
	}
	a.op("MOVQ DX, 24(R14)")
	a.label("clamp" + name)
	each(func(i, v int) { a.op("VMAXPS Z%[1]d, Z30, Z%[1]d", 2*i+v) })
	each(func(i, v int) { a.op("VMINPS Z%[1]d, Z31, Z%[1]d", 2*i+v) })
	a.label("sum" + name)
	each(func(i, v int) { a.op("VMOVUPS Z%d, K%d, %s%s", 2*i+v, 1+v, []string{"", "64"}[v], at(i)) })
	if rows == 12 {
		a.op("LEAQ (R13)(R11*2), DI")
	} else {
		a.op("LEAQ (DI)(SI*%d), DI", rows)
	}
}

// gemv512 takes four rows at a time, then one: a register has the sixteen lanes
// of a row. In the last k%16 elements, lanes past the end keep their bits.
func gemv512(a *asm) {
	a.fn("gemvRowsAVX512", "gemvRowsAVX512 is gemvRowsPortable; mask has k%16 bits set. rows and k are at least 1.",
		arg{"dst", "*float32", "DI"}, arg{"w", "*float32", "R8"}, arg{"x", "*float32", "BX"},
		arg{"rows", "int", "R12"}, arg{"k", "int", "R13"}, arg{"mask", "int", "AX"})
	a.note("DI dst; R8..R11 rows of w; BX x; CX byte offset in the rows; DX bytes of whole groups of 16")
	a.note("Z0..Z3 lanes of four rows; Z8 x; Z9 w of the tail; K1 the mask")
	a.op("KMOVW AX, K1")
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
		for i := range n {
			a.op("VPXORD Z%[1]d, Z%[1]d, Z%[1]d", i)
		}
		a.op("XORQ CX, CX")
		a.op("CMPQ CX, DX")
		a.op("JEQ %stail", name)
		a.label(name + "loop")
		a.op("VMOVUPS (BX)(CX*1), Z8")
		for i, p := range ptr {
			a.op("PREFETCHT0 %d(%s)(CX*1)", gemvAhead, p)
			a.op("VFMADD231PS (%s)(CX*1), Z8, Z%d", p, i)
		}
		a.op("ADDQ $64, CX")
		a.op("CMPQ CX, DX")
		a.op("JLT %sloop", name)
		a.label(name + "tail")
		a.op("CMPQ CX, R13")
		a.op("JEQ %ssum", name)
		a.op("VMOVUPS.Z (BX)(CX*1), K1, Z8")
		for i, p := range ptr {
			a.op("VMOVUPS.Z (%s)(CX*1), K1, Z9", p)
			a.op("VFMADD231PS Z9, Z8, K1, Z%d", i)
		}
		a.label(name + "sum")
		a.note("the tree: lane l + lane l+8, +4, +2, +1")
		for i := range n {
			a.op("VEXTRACTF64X4 $1, Z%d, Y9", i)
			a.op("VADDPS Y9, Y%d, Y%d", i, i)
			a.op("VEXTRACTF128 $1, Y%d, X9", i)
			a.op("VADDPS X9, X%d, X%d", i, i)
			a.op("VPERMILPS $0x0e, X%d, X9", i)
			a.op("VADDPS X9, X%d, X%d", i, i)
			a.op("VMOVSHDUP X%d, X9", i)
			a.op("VADDSS X9, X%d, X%d", i, i)
			a.op("VMOVSS X%d, %d(DI)", i, 4*i)
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

// transposed512 works in registers: rows of src are interleaved in pairs, then in
// fours, whose quarters are then put in order.
func transposed512(a *asm) {
	a.fn("transposedAVX512", "transposedAVX512 is transposedPortable for 16 × 16 elements at most. rows and cols are at least 1.",
		arg{"dst", "*float32", "DI"}, arg{"ldd", "int", "SI"}, arg{"src", "*float32", "AX"}, arg{"lds", "int", "R8"},
		arg{"rows", "int", "R9"}, arg{"cols", "int", "R10"}, arg{"end", "*ending", "BX"})
	a.note("DI dst; SI bytes between its rows; AX src; R8 bytes between its rows; R9 rows left; R10 columns left; R11 bias; R12 add")
	a.note("Z0..Z15 rows of src, then of dst; K1 rows, K2 columns that exist; Z16, Z17 bias and add; Z18, Z19 the bounds")
	a.op("SHLQ $2, SI")
	a.op("SHLQ $2, R8")
	for i, count := range []string{"R9", "R10"} {
		a.op("MOVQ %s, CX", count)
		a.op("MOVQ $1, DX")
		a.op("SHLQ CX, DX")
		a.op("DECQ DX")
		a.op("KMOVW DX, K%d", 1+i)
	}
	for i := range 16 {
		a.op("VMOVUPS.Z (AX), K1, Z%d", i)
		a.op("DECQ R10")
		a.op("JZ loaded")
		a.op("ADDQ R8, AX")
	}
	a.label("loaded")
	for i := range 8 {
		a.op("VUNPCKLPS Z%d, Z%d, Z%d", 2*i+1, 2*i, 16+2*i)
		a.op("VUNPCKHPS Z%d, Z%d, Z%d", 2*i+1, 2*i, 17+2*i)
	}
	for g := range 4 {
		for p := range 4 {
			a.op("%s Z%d, Z%d, Z%d", []string{"VUNPCKLPD", "VUNPCKHPD"}[p%2], 18+4*g+p/2, 16+4*g+p/2, 4*g+p)
		}
	}
	for p := range 4 {
		for g := range 4 {
			from := 8*(g/2) + p
			a.op("VSHUFF32X4 $%#x, Z%d, Z%d, Z%d", 0x88+0x55*(g%2), from+4, from, 16+4*p+g)
		}
	}
	for p := range 4 {
		for q := range 4 {
			from := 16 + 4*p + q%2
			a.op("VSHUFF32X4 $%#x, Z%d, Z%d, Z%d", 0x88+0x55*(q/2), from+2, from, 4*q+p)
		}
	}
	a.op("MOVQ (BX), R11")
	a.op("MOVQ 24(BX), R12")
	a.op("VBROADCASTSS 48(BX), Z18")
	a.op("VBROADCASTSS 52(BX), Z19")
	for i := range 16 {
		a.op("VBROADCASTSS %d(R11), Z16", 4*i)
		a.op("VADDPS Z16, Z%[1]d, Z%[1]d", i)
		a.op("TESTQ R12, R12")
		a.op("JZ clamp%d", i)
		a.op("VMOVUPS.Z (R12), K2, Z17")
		a.op("VADDPS Z17, Z%[1]d, Z%[1]d", i)
		a.op("ADDQ SI, R12")
		a.label(fmt.Sprintf("clamp%d", i))
		a.op("VMAXPS Z%[1]d, Z18, Z%[1]d", i)
		a.op("VMINPS Z%[1]d, Z19, Z%[1]d", i)
		a.op("VMOVUPS Z%d, K2, (DI)", i)
		a.op("DECQ R9")
		a.op("JZ end")
		a.op("ADDQ SI, DI")
	}
	a.label("end")
	a.end()
}

func depthwise512(a *asm) {
	a.fn("depthwiseRowsAVX512", "depthwiseRowsAVX512 is depthwiseRowsPortable; mask has cols%16 bits set. rows, cols and taps are at least 1.",
		arg{"dst", "*float32", "DI"}, arg{"src", "*float32", "SI"}, arg{"w", "*float32", "R8"}, arg{"off", "*int", "R9"},
		arg{"taps", "int", "R10"}, arg{"rows", "int", "R11"}, arg{"cols", "int", "R12"}, arg{"srcStep", "int", "R13"}, arg{"mask", "int", "AX"})
	a.note("DI dst; SI row of src; DX src at the current column; R8 w; R9 off; R10 taps; R11 rows left; R12 columns; R13 bytes of a row of src")
	a.note("BX columns left; CX tap; AX offset of the tap; Z0..Z3 sums; Z4 w; Z5 src of the tail; K1 the mask")
	a.op("KMOVW AX, K1")
	a.op("SHLQ $2, R13")
	a.label("row")
	a.op("MOVQ SI, DX")
	a.op("MOVQ R12, BX")
	for _, n := range []int{4, 2, 1} {
		name := fmt.Sprintf("cols%d", n)
		a.op("SUBQ $%d, BX", 16*n)
		a.op("JLT less%d", n)
		a.label(name)
		for i := range n {
			a.op("VPXORD Z%[1]d, Z%[1]d, Z%[1]d", i)
		}
		a.op("XORQ CX, CX")
		a.label(name + "tap")
		a.op("MOVQ (R9)(CX*8), AX")
		a.op("VBROADCASTSS (R8)(CX*4), Z4")
		for i := range n {
			a.op("VFMADD231PS %d(DX)(AX*4), Z4, Z%d", 64*i, i)
		}
		a.op("INCQ CX")
		a.op("CMPQ CX, R10")
		a.op("JLT %stap", name)
		for i := range n {
			a.op("VMOVUPS Z%d, %d(DI)", i, 64*i)
		}
		a.op("ADDQ $%d, DI", 64*n)
		a.op("ADDQ $%d, DX", 64*n)
		a.op("SUBQ $%d, BX", 16*n)
		a.op("JGE %s", name)
		a.label(fmt.Sprintf("less%d", n))
		a.op("ADDQ $%d, BX", 16*n)
	}
	a.op("JZ next")
	a.op("VPXORD Z0, Z0, Z0")
	a.op("XORQ CX, CX")
	a.label("tailtap")
	a.op("MOVQ (R9)(CX*8), AX")
	a.op("VBROADCASTSS (R8)(CX*4), Z4")
	a.op("VMOVUPS.Z (DX)(AX*4), K1, Z5")
	a.op("VFMADD231PS Z5, Z4, Z0")
	a.op("INCQ CX")
	a.op("CMPQ CX, R10")
	a.op("JLT tailtap")
	a.op("VMOVUPS Z0, K1, (DI)")
	a.op("LEAQ (DI)(BX*4), DI")
	a.label("next")
	a.op("ADDQ R13, SI")
	a.op("DECQ R11")
	a.op("JNZ row")
	a.end()
}

// elementwise512 writes the loops over whole slices, sixteen elements at a time,
// the last of them masked. DI dst, SI and DX the operands, CX elements left.
func elementwise512(a *asm) {
	dst, n := arg{"dst", "*float32", "DI"}, arg{"n", "int", "CX"}
	lo, hi := arg{"lo", "float32", "Z2"}, arg{"hi", "float32", "Z3"}
	binary := []arg{dst, {"a", "*float32", "SI"}, {"b", "*float32", "DX"}, n}
	// Of two zeros or with a NaN VMAX gives its second source, so it is done both
	// ways: the two agree but for zeros, where AND prefers +0, and NaN.
	most := []string{
		"VMAXPS Z1, Z0, Z4",
		"VMAXPS Z0, Z1, Z5",
		"VCMPPS $3, Z1, Z0, K2", // where either is NaN
		"VPANDD Z5, Z4, Z4",
		"VADDPS Z1, Z0, K2, Z4",
		"VMOVAPS Z4, Z0",
	}
	clamp := []string{"VMAXPS Z0, Z2, Z0", "VMINPS Z0, Z3, Z0"}
	for _, f := range []struct {
		name string
		args []arg
		load []string // registers that the operands are loaded into
		ops  []string
	}{
		{"vecSub", []arg{dst, {"x", "*float32", "SI"}, n}, []string{"DI", "SI"}, []string{"VSUBPS Z1, Z0, Z0"}},
		{"vecAdd", binary, []string{"SI", "DX"}, []string{"VADDPS Z1, Z0, Z0"}},
		{"vecMul", binary, []string{"SI", "DX"}, []string{"VMULPS Z1, Z0, Z0"}},
		{"vecDiv", binary, []string{"SI", "DX"}, []string{"VDIVPS Z1, Z0, Z0"}},
		{"vecMax", binary, []string{"SI", "DX"}, most},
		{"vecClamp", []arg{dst, {"x", "*float32", "SI"}, n, lo, hi}, []string{"SI"}, clamp},
		{"vecBiasClamp", []arg{dst, n, {"bias", "float32", "Z1"}, lo, hi}, []string{"DI"}, append([]string{"VADDPS Z1, Z0, Z0"}, clamp...)},
	} {
		a.fn(f.name+"AVX512", f.name+"AVX512 is "+f.name+"Portable for n elements.", f.args...)
		if f.args[len(f.args)-1] == hi {
			a.note("Z1 bias, if any; Z2 lo; Z3 hi; the value is the second source, so that NaN stays")
		}
		move := func(masked bool) {
			for i, p := range f.load {
				if masked {
					a.op("VMOVUPS.Z (%s), K1, Z%d", p, i)
				} else {
					a.op("VMOVUPS (%s), Z%d", p, i)
				}
			}
			a.op("%s", strings.Join(f.ops, "\n\t"))
			if masked {
				a.op("VMOVUPS Z0, K1, (DI)")
				return
			}
			a.op("VMOVUPS Z0, (DI)")
			for _, g := range f.args {
				if g.typ == "*float32" {
					a.op("ADDQ $64, %s", g.reg)
				}
			}
		}
		a.op("SUBQ $16, CX")
		a.op("JLT rest")
		a.label("sixteen")
		move(false)
		a.op("SUBQ $16, CX")
		a.op("JGE sixteen")
		a.label("rest")
		a.op("ADDQ $16, CX")
		a.op("JZ end")
		a.op("MOVQ $1, AX")
		a.op("SHLQ CX, AX")
		a.op("DECQ AX")
		a.op("KMOVW AX, K1")
		move(true)
		a.label("end")
		a.end()
	}
}

// exp512 computes the exponentials of a softmax, see expNonPositive.
// expConstants are those of expNonPositive, in the order in which it uses them.
var expConstants = []float32{
	-104, 1 / math.Ln2, 1.5 * (1 << 23), -0x1.62e4p-1, -0x1.7f7d1cf79abcap-20,
	1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1,
}

func exp512(a *asm) {
	a.fn("vecExpAVX512", "vecExpAVX512 is vecExpPortable for n elements. n is at least 1.",
		arg{"dst", "*float32", "DI"}, arg{"x", "*float32", "SI"}, arg{"n", "int", "CX"}, arg{"most", "float32", "Z31"})
	a.note("DI dst; SI x; CX elements left; Z0 x; Z1 n; Z2 r; Z3 y; Z16..Z27 constants; K1 elements that exist; K2 those that are not 0")
	for i, c := range expConstants {
		a.op("MOVL $%#x, AX // %v", math.Float32bits(c), c)
		a.op("VPBROADCASTD AX, Z%d", 16+i)
	}
	a.op("KXNORW K1, K1, K1")
	a.label("loop")
	a.op("CMPQ CX, $16")
	a.op("JGE whole")
	a.op("MOVQ $1, AX")
	a.op("SHLQ CX, AX")
	a.op("DECQ AX")
	a.op("KMOVW AX, K1")
	a.label("whole")
	a.op("VMOVUPS.Z (SI), K1, Z0")
	a.op("VSUBPS Z31, Z0, Z0")
	a.op("VCMPPS $5, Z16, Z0, K2") // not less than: NaN too
	a.op("VMOVAPS Z18, Z1")
	a.op("VFMADD231PS Z17, Z0, Z1")
	a.op("VSUBPS Z18, Z1, Z1")
	a.op("VMOVAPS Z0, Z2")
	a.op("VFMADD231PS Z19, Z1, Z2")
	a.op("VFMADD231PS Z20, Z1, Z2")
	a.op("VMOVAPS Z21, Z3")
	for _, z := range []int{22, 23, 24, 25, 26, 27, 27} {
		a.op("VFMADD213PS Z%d, Z2, Z3", z)
	}
	a.op("VSCALEFPS.Z Z1, Z3, K2, Z3")
	a.op("VMOVUPS Z3, K1, (DI)")
	a.op("ADDQ $64, SI")
	a.op("ADDQ $64, DI")
	a.op("SUBQ $16, CX")
	a.op("JGT loop")
	a.end()
}

// peak512 is peak with longer registers and twice as many chains.
func peak512(a *asm) {
	a.fn("peakAVX512", "peakAVX512 does n rounds of 384 fused multiply-adds in registers, for benchmarks. n is at least 1.", arg{"n", "int", "CX"})
	a.note("Z0..Z23 sums; Z24, Z25 zero; CX rounds left")
	for i := range 26 {
		a.op("VPXORD Z%[1]d, Z%[1]d, Z%[1]d", i)
	}
	a.label("loop")
	for i := range 24 {
		a.op("VFMADD231PS Z24, Z25, Z%d", i)
	}
	a.op("DECQ CX")
	a.op("JNZ loop")
	a.end()
}
