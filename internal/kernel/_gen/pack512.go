package main

import "fmt"

// Packing with AVX-512.

// pack512 writes the loop over the taps with the channels of a tap in it, row
// being what a row of dst takes, for panels of one or two registers. Before the
// loop, begin is written.
func pack512(a *asm, begin func(), run bool, row func(vectors int)) {
	a.note("DI dst; SI src; R8 columns, then free; R9 taps; R10 taps left; R11 bytes of a plane; R12 bytes between rows of a tap")
	a.note("BX src and DX dst at a channel; CX channels left; R13 columns in the panel, then free")
	a.note("Z8 h; Z9 w; Z10, Z11 y and Z12, Z13 x of the columns; K1, K2 lanes inside the map; K3, K4 lanes of the panel")
	a.op("VPBROADCASTD R11, Z8")
	a.op("VPBROADCASTD AX, Z9")
	a.op("IMULQ AX, R11")
	a.op("SHLQ $2, R11")
	a.op("MOVQ $1, BX")
	a.op("MOVQ R13, CX")
	a.op("SHLQ CX, BX")
	a.op("DECQ BX")
	a.op("KMOVW BX, K3")
	a.op("SHRQ $16, BX")
	a.op("KMOVW BX, K4")
	a.op("SHLQ $2, R13")
	a.op("IMULQ R13, R12")
	for i := range 4 {
		a.op("VMOVDQU32 %d(R8), Z%d", 64*i, 10+i)
	}
	begin()
	a.label("tap")
	a.op("VPBROADCASTD (R9), Z2")
	a.op("VPBROADCASTD 4(R9), Z3")
	for h := range 2 {
		a.op("VPADDD Z%d, Z2, Z4", 10+h)
		a.op("VPADDD Z%d, Z3, Z5", 12+h)
		a.op("VPCMPUD $1, Z8, Z4, K%d", 1+h)
		a.op("VPCMPUD $1, Z9, Z5, K%[1]d, K%[1]d", 1+h)
	}
	a.op("MOVLQSX 8(R9), BX")
	if run {
		a.op("ADDQ R8, BX")
		a.note("K5, K6 lanes that are written: with merge, those inside the map")
		for h := range 2 {
			a.op("KMOVW K%d, K%d", 1+h, 5+h)
		}
		a.op("TESTQ R15, R15")
		a.op("JNZ merge")
		for h := range 2 {
			a.op("KMOVW K%d, K%d", 3+h, 5+h)
		}
		a.label("merge")
	}
	a.op("MOVLQSX 20(R9), CX")
	a.op("IMULQ R11, CX")
	a.op("LEAQ (CX)(BX*4), BX")
	a.op("ADDQ SI, BX")
	a.op("MOVLQSX 16(R9), DX")
	a.op("IMULQ R13, DX")
	a.op("ADDQ DI, DX")
	a.op("MOVLQSX 12(R9), CX")
	a.op("CMPQ R13, $64")
	a.op("JGT wide")
	for _, vectors := range []int{1, 2} {
		name := []string{"narrow", "wide"}[vectors-1]
		a.label(name)
		row(vectors)
		a.op("ADDQ R11, BX")
		a.op("ADDQ R12, DX")
		a.op("DECQ CX")
		a.op("JNZ %s", name)
		if vectors == 1 {
			a.op("JMP next")
		}
	}
	a.label("next")
	a.op("ADDQ $24, R9")
	a.op("DECQ R10")
	a.op("JNZ tap")
	a.end()
}

// packArgs512 are the arguments of both.
var packArgs512 = append(append(append([]arg{}, packArgs[:5]...), arg{"width", "int", "R13"}), packArgs[5:]...)

func packRun512(a *asm) {
	a.fn("packRunAVX512", "packRunAVX512 is packPortable for a run; count is the number of taps, merge is 0 or 1.\nWith merge, lanes inside the run must hold +0 before.",
		append(append([]arg{}, packArgs512...), arg{"merge", "int", "R15"})...)
	pack512(a, func() { a.op("MOVLQSX 256(R8), R8") }, true, func(vectors int) {
		for v := range vectors {
			a.op("VMOVUPS.Z %d(BX), K%d, Z%d", 64*v, 1+v, v)
		}
		for v := range vectors {
			a.op("VMOVUPS Z%d, K%d, %d(DX)", v, 5+v, 64*v)
		}
	})
}

func packEven512(a *asm) {
	a.fn("packEvenAVX512", "packEvenAVX512 is packPortable for a run of stride 2; count is the number of taps, merge is 0 or 1.\nWith merge, lanes inside the run must hold +0 before.",
		append(append([]arg{}, packArgs512...), arg{"merge", "int", "R15"})...)
	pack512(a, func() {
		a.note("Z14 where even cells are")
		a.op("VMOVDQU32 ·evens(SB), Z14")
		a.op("MOVLQSX 256(R8), R8")
	}, true, func(vectors int) {
		for v := range 2 * vectors {
			a.op("VMOVUPS %d(BX), Z%d", 64*v, v)
		}
		for v := range vectors {
			a.op("VPERMT2PS.Z Z%d, Z14, K%d, Z%d", 2*v+1, 1+v, 2*v)
		}
		for v := range vectors {
			a.op("VMOVUPS Z%d, K%d, %d(DX)", 2*v, 5+v, 64*v)
		}
	})
}

func packGather512(a *asm) {
	a.fn("packGatherAVX512", "packGatherAVX512 is packPortable for columns anywhere; count is the number of taps.", packArgs512...)
	pack512(a, func() {
		a.note("Z14, Z15 offsets of the columns")
		a.op("VMOVDQU32 256(R8), Z14")
		a.op("VMOVDQU32 320(R8), Z15")
	}, false, func(vectors int) {
		for v := range vectors {
			a.op("KMOVW K%d, K7", 1+v)
			a.op("VPXORD Z%[1]d, Z%[1]d, Z%[1]d", v)
			a.op("VGATHERDPS (BX)(Z%d*4), K7, Z%d", 14+v, v)
			a.op("VMOVUPS Z%d, K%d, %d(DX)", v, 3+v, 64*v)
		}
	})
}

// packChannels512 writes the loops over channels with the taps in them: for panels
// that lie inside the map, and for those of one to three runs.
func packChannels512(a *asm) {
	for runs := range 4 {
		name, doc := "packWholeAVX512", "packWholeAVX512 is packWholePortable; count is the number of taps. count and channels are at least 1."
		args := []arg{
			{"dst", "*float32", "DI"},
			{"src", "*float32", "SI"},
			{"taps", "*tap", "R9"},
			{"count", "int", "R10"},
			{"channels", "int", "R11"},
			{"plane", "int", "R8"},
		}
		if runs > 0 {
			name = fmt.Sprintf("packStripes%dAVX512", runs)
			doc = fmt.Sprintf("%s is packStripesPortable for as many runs; count is the number of taps.\ncount and channels are at least 1.", name)
			args = append(args, arg{"at", "*int", "DX"}, arg{"masks", "*uint16", "R15"})
		}
		a.fn(name, doc, args...)
		src := []string{"SI", "R12", "R13"}
		a.note("DI dst; SI, R12, R13 src of each run at a channel; R8 bytes of a plane; R9 taps; R10 how many; R11 channels left")
		a.note("BX tap; CX taps left; DX where it lies; R15, AX masks; Z0, Z1 cells; K1, K2 lanes of a run")
		a.op("SHLQ $2, R8")
		for r := runs - 1; r >= 0; r-- {
			a.op("MOVQ %d(DX), AX", 8*r)
			a.op("LEAQ (SI)(AX*4), %s", src[r])
		}
		a.label("channel")
		a.op("MOVQ R9, BX")
		a.op("MOVQ R10, CX")
		if runs > 0 {
			a.op("MOVQ R15, AX")
		}
		a.label("tap")
		a.op("MOVLQSX 8(BX), DX")
		for r := range max(1, runs) {
			for v := range 2 {
				switch {
				case runs == 0:
					a.op("VMOVUPS %d(%s)(DX*4), Z%d", 64*v, src[r], v)
				default:
					zero := ".Z"
					if r > 0 {
						zero = ""
					}
					a.op("KMOVW %d(AX), K%d", 4*r+2*v, 1+v)
					a.op("VMOVUPS%s %d(%s)(DX*4), K%d, Z%d", zero, 64*v, src[r], 1+v, v)
				}
			}
		}
		for v := range 2 {
			a.op("VMOVUPS Z%d, %d(DI)", v, 64*v)
		}
		a.op("ADDQ $24, BX")
		if runs > 0 {
			a.op("ADDQ $%d, AX", 4*runs)
		}
		a.op("ADDQ $128, DI")
		a.op("DECQ CX")
		a.op("JNZ tap")
		for r := range max(1, runs) {
			a.op("ADDQ R8, %s", src[r])
		}
		a.op("DECQ R11")
		a.op("JNZ channel")
		a.end()
	}
}
