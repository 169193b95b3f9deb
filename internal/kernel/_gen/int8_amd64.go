package main

import "fmt"

// Integer products for amd64.

// vex is VEX.66.0F38.W0 with three 256-bit registers: the AVX-VNNI forms, which
// Go's assembler does not have (Intel SDM 325383, VPDPBUSD and VPDPWSSD). d += n·m,
// where for bytes n is unsigned and m signed.
func (a *asm) vex(name string, opcode, m, n, d int) {
	a.op("BYTE $0xc4; BYTE $%#02x; BYTE $%#02x; BYTE $%#02x; BYTE $%#02x // %s Y%d, Y%d, Y%d",
		0x42|(1-d>>3)<<7|(1-m>>3)<<5, 0x05|(15-n)<<3, opcode, 0xc0|d&7<<3|m&7, name, m, n, d)
}

var mulArgs = []arg{{"c", "*int32", "DI"}, {"a", "*uint32", "AX"}, {"b", "*uint32", "BX"}, {"lanes", "int", "R8"}, {"rows", "int", "R9"}}

const mulDoc = "%s is multiplyPortable for tiles of %s. rows is a multiple of %d, and %s."

// mul512 multiplies tiles of 12×32, 8×32 and 4×32.
func mul512(a *asm) {
	for _, f := range []struct{ name, doc, op string }{
		{"mulBytesAVX512", "the bytes of a are signed", "VPDPBUSD Z%[1]d, Z%[2]d, Z%[3]d"},
		{"mulBytesFlippedAVX512", "the bytes of b are signed", "VPDPBUSD Z%[2]d, Z%[1]d, Z%[3]d"},
		{"mulPairsAVX512", "lanes are pairs of int16", "VPDPWSSD Z%[1]d, Z%[2]d, Z%[3]d"},
	} {
		a.fn(f.name, fmt.Sprintf(mulDoc, f.name, "12×32", 4, f.doc)+"\nvectors is 1 if only 16 columns are wanted, else 2. lanes and rows are at least 1.",
			append(append([]arg{}, mulArgs...), arg{"vectors", "int", "R10"})...)
		a.note("DI c; AX a, runs on from tile to tile; BX b; DX b at the current lane; CX lanes left; R9 rows left")
		a.note("Z0..Z23 the tile, two registers a row; Z24, Z25 a row of b; Z26..Z31 lanes of a")
		a.op("CMPQ R10, $1")
		a.op("JE next1")
		for vectors := 2; vectors > 0; vectors-- {
			a.label(fmt.Sprintf("next%d", vectors))
			for _, rows := range []int{12, 8, 4} {
				a.op("CMPQ R9, $%d", rows)
				a.op("JGE rows%dx%d", rows, vectors)
			}
			a.end()
			for _, rows := range []int{12, 8, 4} {
				name := fmt.Sprintf("%dx%d", rows, vectors)
				a.label("rows" + name)
				for i := range rows {
					for v := range vectors {
						a.op("VPXORD Z%[1]d, Z%[1]d, Z%[1]d", 2*i+v)
					}
				}
				step := func(u int) {
					for v := range vectors {
						a.op("VMOVDQU32 %d(DX), Z%d", 128*u+64*v, 24+v)
					}
					for i := range rows {
						z := 26 + i%6
						a.op("VPBROADCASTD %d(AX), Z%d", 4*rows*u+4*i, z)
						for v := range vectors {
							a.op(f.op, z, 24+v, 2*i+v)
						}
					}
				}
				a.op("MOVQ BX, DX")
				a.op("MOVQ R8, CX")
				a.op("SUBQ $2, CX")
				a.op("JLT rest" + name)
				a.label("two" + name)
				step(0)
				step(1)
				a.op("ADDQ $%d, AX", 8*rows)
				a.op("ADDQ $256, DX")
				a.op("SUBQ $2, CX")
				a.op("JGE two%s", name)
				a.label("rest" + name)
				a.op("ADDQ $2, CX")
				a.op("JZ store%s", name)
				step(0)
				a.op("ADDQ $%d, AX", 4*rows)
				a.label("store" + name)
				for i := range rows {
					for v := range vectors {
						a.op("VMOVDQU32 Z%d, %d(DI)", 2*i+v, 128*i+64*v)
					}
				}
				a.op("ADDQ $%d, DI", 128*rows)
				a.op("SUBQ $%d, R9", rows)
				a.op("JMP next%d", vectors)
			}
		}
	}
}

// mul256 multiplies tiles of 6×16.
func mul256(a *asm) {
	for _, f := range []struct {
		name, doc string
		op        func(m, n, d int)
	}{
		{"mulPairsAVX2", "lanes are pairs of int16", func(m, n, d int) {
			a.op("VPMADDWD Y%d, Y%d, Y15", m, n)
			a.op("VPADDD Y15, Y%[1]d, Y%[1]d", d)
		}},
		{"mulBytesVNNI", "the bytes of a are signed", func(m, n, d int) { a.vex("VPDPBUSD", 0x50, m, n, d) }},
		{"mulBytesFlippedVNNI", "the bytes of b are signed", func(m, n, d int) { a.vex("VPDPBUSD", 0x50, n, m, d) }},
	} {
		a.fn(f.name, fmt.Sprintf(mulDoc, f.name, "6×16", 6, f.doc)+"\nlanes and rows are at least 1.", mulArgs...)
		a.note("DI c; AX a, runs on from tile to tile; BX b; DX b at the current lane; CX lanes left; R9 rows left")
		a.note("Y0..Y11 the tile, two registers a row; Y12, Y13 a row of b; Y14 a lane of a; Y15 products")
		a.label("tile")
		for i := range 12 {
			a.op("VPXOR Y%[1]d, Y%[1]d, Y%[1]d", i)
		}
		a.op("MOVQ BX, DX")
		a.op("MOVQ R8, CX")
		a.label("lane")
		a.op("VMOVDQU (DX), Y12")
		a.op("VMOVDQU 32(DX), Y13")
		for i := range 6 {
			a.op("VPBROADCASTD %d(AX), Y14", 4*i)
			f.op(14, 12, 2*i)
			f.op(14, 13, 2*i+1)
		}
		a.op("ADDQ $24, AX")
		a.op("ADDQ $64, DX")
		a.op("DECQ CX")
		a.op("JNZ lane")
		for i := range 12 {
			a.op("VMOVDQU Y%d, %d(DI)", i, 32*i)
		}
		a.op("ADDQ $384, DI")
		a.op("SUBQ $6, R9")
		a.op("JNZ tile")
		a.end()
	}
}

// mulAMX multiplies 32×32 and 16×32 with tile registers, none of whose instructions
// Go's assembler has (Intel SDM 325383, chapter 18 and TDPBSSD and others).
func mulAMX(a *asm) {
	const ax, cx, dx, bx, si, di = 0, 1, 2, 3, 6, 7
	word := func(pp, opcode int, comment string, rest ...int) {
		text := fmt.Sprintf("BYTE $0xc4; BYTE $0xe2; BYTE $%#02x; BYTE $%#02x", pp, opcode)
		for _, b := range rest {
			text += fmt.Sprintf("; BYTE $%#02x", b)
		}
		a.op("%s // %s", text, comment)
	}
	// memory is ModRM, SIB and a displacement for tile t at base + index.
	memory := func(t, base, index, disp int) []int {
		return []int{0x84 | t<<3, index<<3 | base, disp & 255, disp >> 8 & 255, 0, 0}
	}
	load := func(t, base, index, disp int) {
		word(0x7b, 0x4b, fmt.Sprintf("TILELOADD T%d", t), memory(t, base, index, disp)...)
	}
	for _, f := range []struct {
		name, doc string
		pp        int
	}{
		{"mulSignedAMX", "the bytes of a are signed", 0x02},
		{"mulUnsignedAMX", "the bytes of b are signed", 0x01},
	} {
		a.fn(f.name, f.name+" is multiplyPortable for A in rows and panels of 32 columns; "+f.doc+".\nrows and lanes are multiples of 16 and at least that. config configures eight tiles of 16 rows of 64 bytes.",
			append(append([]arg{}, mulArgs...), arg{"config", "*[64]byte", "R10"})...)
		a.note("DI c; AX, CX rows 0 and 16 of a; BX b; SI bytes between rows of a; DX between those of b and c")
		a.note("R8 lanes; R9 rows left; R11 a; R12 b; R13 lanes left")
		a.note("T0..T3 the result, two tiles a row; T4, T5 rows of a; T6, T7 columns of b")
		a.op("MOVQ R8, SI")
		a.op("SHLQ $2, SI")
		a.op("MOVQ AX, R11")
		a.op("MOVQ BX, R12")
		a.op("MOVQ $128, DX")
		a.op("MOVQ R10, AX")
		word(0x78, 0x49, "LDTILECFG (AX)", 0x00)
		a.label("next")
		for rows := 2; rows > 0; rows-- {
			if rows == 2 {
				a.op("CMPQ R9, $32")
				a.op("JLT rows1")
			} else {
				a.label("rows1")
				a.op("TESTQ R9, R9")
				a.op("JZ done")
			}
			for t := range 2 * rows {
				word(0x7b, 0x49, fmt.Sprintf("TILEZERO T%d", t), 0xc0|t<<3)
			}
			a.op("MOVQ R11, AX")
			a.op("MOVQ SI, CX")
			a.op("SHLQ $4, CX")
			a.op("ADDQ AX, CX")
			a.op("MOVQ R12, BX")
			a.op("MOVQ R8, R13")
			a.label(fmt.Sprintf("lanes%d", rows))
			mul := func(t int) {
				n := 6 + t%2
				a.op("BYTE $0xc4; BYTE $0xe2; BYTE $%#02x; BYTE $0x5e; BYTE $%#02x // T%d += T%d·T%d",
					(15-n)<<3|f.pp, 0xc0|t<<3|(4+t/2), t, 4+t/2, n)
			}
			load(6, bx, dx, 0)
			load(4, ax, si, 0)
			mul(0)
			load(7, bx, dx, 64)
			mul(1)
			if rows == 2 {
				load(5, cx, si, 0)
				mul(2)
				mul(3)
			}
			a.op("ADDQ $64, AX")
			a.op("ADDQ $64, CX")
			a.op("ADDQ $2048, BX")
			a.op("SUBQ $16, R13")
			a.op("JNZ lanes%d", rows)
			for t := range 2 * rows {
				word(0x7a, 0x4b, fmt.Sprintf("TILESTORED T%d", t), memory(t, di, dx, 2048*(t/2)+64*(t%2))...)
			}
			if rows == 2 {
				a.op("MOVQ SI, CX")
				a.op("SHLQ $5, CX")
				a.op("ADDQ CX, R11")
				a.op("ADDQ $4096, DI")
				a.op("SUBQ $32, R9")
				a.op("JMP next")
			}
		}
		a.label("done")
		word(0x78, 0x49, "TILERELEASE", 0xc0)
		a.end()
	}
}

// packRuns interleaves bytes of neighbouring cells into lanes.
func packRuns(a *asm) {
	for _, f := range []struct {
		name   string
		per, n int
	}{{"packBytes32AVX2", 4, 32}, {"packBytes16AVX2", 4, 16}, {"packPairs32AVX2", 2, 32}, {"packPairs16AVX2", 2, 16}} {
		a.fn(f.name, fmt.Sprintf("%s is packRunsPortable for %d values in a lane and panels of %d columns. Runs are\nread and written %d cells long.", f.name, f.per, f.n, f.n),
			arg{"dst", "*uint32", "DI"}, arg{"src", "*byte", "SI"}, arg{"offs", "*int32", "R8"}, arg{"runs", "*run8", "R9"}, arg{"count", "int", "R10"},
			arg{"lanes", "int", "R11"}, arg{"flip", "*[32]byte", "AX"})
		a.note("DI dst at the current lane; SI src; R8 offsets; R9 runs; R10 words of runs; R11 lanes left; AX, BX, CX, DX values of the")
		a.note("lane; R12 offset of the run; R13 words of runs done; R15 where the run goes; Y15 what is flipped")
		a.op("VMOVDQU (AX), Y15")
		a.op("ADDQ R10, R10")
		a.label("lane")
		src := []string{"AX", "BX", "CX", "DX"}[:f.per]
		for i, r := range src {
			a.op("MOVLQSX %d(R8), %s", 4*i, r)
			a.op("ADDQ SI, %s", r)
		}
		a.op("XORQ R13, R13")
		a.label("run")
		a.op("MOVQ (R9)(R13*8), R12")
		a.op("MOVQ 8(R9)(R13*8), R15")
		a.op("LEAQ (DI)(R15*4), R15")
		reg := "X"
		if f.per == 4 && f.n == 32 {
			reg = "Y"
		}
		if f.per == 4 {
			for i, r := range src {
				a.op("VPXOR (%s)(R12*1), %s15, %s%d", r, reg, reg, i)
			}
			for i := range 2 {
				a.op("VPUNPCKLBW %[1]s%[2]d, %[1]s%[3]d, %[1]s%[4]d", reg, 2*i+1, 2*i, 4+2*i)
				a.op("VPUNPCKHBW %[1]s%[2]d, %[1]s%[3]d, %[1]s%[4]d", reg, 2*i+1, 2*i, 5+2*i)
			}
			for i := range 2 {
				a.op("VPUNPCKLWD %[1]s%[2]d, %[1]s%[3]d, %[1]s%[4]d", reg, 6+i, 4+i, 2*i)
				a.op("VPUNPCKHWD %[1]s%[2]d, %[1]s%[3]d, %[1]s%[4]d", reg, 6+i, 4+i, 2*i+1)
			}
			for i := range 4 {
				a.op("VMOVDQU X%d, %d(R15)", i, 16*i)
				if f.n == 32 {
					a.op("VEXTRACTI128 $1, Y%d, %d(R15)", i, 64+16*i)
				}
			}
		} else {
			for h := range f.n / 16 {
				for i, r := range src {
					a.op("VPXOR %d(%s)(R12*1), X15, X%d", 16*h, r, i)
				}
				a.op("VPUNPCKLBW X1, X0, X2")
				a.op("VPUNPCKHBW X1, X0, X3")
				for i := range 2 {
					a.op("VPMOVZXBW X%d, Y%d", 2+i, 2+i)
					a.op("VMOVDQU Y%d, %d(R15)", 2+i, 64*h+32*i)
				}
			}
		}
		a.op("ADDQ $2, R13")
		a.op("CMPQ R13, R10")
		a.op("JLT run")
		a.op("ADDQ $%d, R8", 4*f.per)
		a.op("ADDQ $%d, DI", 4*f.n)
		a.op("DECQ R11")
		a.op("JNZ lane")
		a.end()
	}
}
