package main

// The routines between float32 and narrower numbers.

// convertAMD64 writes the conversions to and from half precision, eight elements
// at a time, and the search for the least and the greatest.
func convertAMD64(a *asm) {
	n := arg{"n", "int", "CX"}
	a.fn("toHalfAVX2", "toHalfAVX2 is toHalfPortable for n elements, a multiple of 8 and at least that.",
		arg{"dst", "*uint16", "DI"}, arg{"x", "*float32", "SI"}, n, arg{"scale", "float32", "Y1"})
	a.label("eight")
	a.op("VMULPS (SI), Y1, Y0")
	a.op("VCVTPS2PH $0, Y0, X0")
	a.op("VMOVUPS X0, (DI)")
	a.op("ADDQ $32, SI")
	a.op("ADDQ $16, DI")
	a.op("SUBQ $8, CX")
	a.op("JNZ eight")
	a.end()

	a.fn("fromHalfAVX2", "fromHalfAVX2 is fromHalfPortable for n elements, a multiple of 8 and at least that.",
		arg{"dst", "*float32", "DI"}, arg{"h", "*uint16", "SI"}, n, arg{"scale", "float32", "Y1"})
	a.label("eight")
	a.op("VCVTPH2PS (SI), Y0")
	a.op("VMULPS Y1, Y0, Y0")
	a.op("VMOVUPS Y0, (DI)")
	a.op("ADDQ $16, SI")
	a.op("ADDQ $32, DI")
	a.op("SUBQ $8, CX")
	a.op("JNZ eight")
	a.end()

	a.fn("extremesAVX2", "extremesAVX2 widens least and most, eight lanes each, by 16·groups elements, none of\nwhich is NaN. groups is at least 1.",
		arg{"least", "*float32", "DI"}, arg{"most", "*float32", "DX"}, arg{"x", "*float32", "SI"}, arg{"groups", "int", "CX"})
	a.op("VMOVUPS (DI), Y0")
	a.op("VMOVUPS (DX), Y1")
	a.op("VMOVAPS Y0, Y2")
	a.op("VMOVAPS Y1, Y3")
	a.label("group")
	for v := range 2 {
		a.op("VMOVUPS %d(SI), Y%d", 32*v, 4+v)
		a.op("VMINPS Y%[1]d, Y%[2]d, Y%[2]d", 4+v, 2*v)
		a.op("VMAXPS Y%[1]d, Y%[2]d, Y%[2]d", 4+v, 2*v+1)
	}
	a.op("ADDQ $64, SI")
	a.op("DECQ CX")
	a.op("JNZ group")
	a.op("VMINPS Y2, Y0, Y0")
	a.op("VMAXPS Y3, Y1, Y1")
	a.op("VMOVUPS Y0, (DI)")
	a.op("VMOVUPS Y1, (DX)")
	a.end()
}

// convertNEON writes the same for arm64, and to and from bytes. What Go's
// assembler lacks is in Arm ARM DDI 0487, C7.2.
func convertNEON(a *asm) {
	n := arg{"n", "int", "R2"}
	two := func(name string, base, n, d int) { a.op("WORD $0x%08x // %s V%d, V%d", base|n<<5|d, name, d, n) }
	loop := func(in, out int, do func()) {
		a.label("eight")
		do()
		a.op("ADD $%d, R1", in)
		a.op("ADD $%d, R0", out)
		a.op("SUBS $8, R2")
		a.op("BNE eight")
		a.op("RET")
	}
	a.fn("toHalfNEON", "toHalfNEON is toHalfPortable for n elements, a multiple of 8 and at least that.",
		arg{"dst", "*uint16", "R0"}, arg{"x", "*float32", "R1"}, n, arg{"scale", "float32", "V4"})
	loop(32, 16, func() {
		a.op("VLD1 (R1), [V0.S4, V1.S4]")
		a.vector("FMUL", 0, 0, 4)
		a.vector("FMUL", 1, 1, 4)
		two("FCVTN 4H", 0x0e216800, 0, 2)
		two("FCVTN2 8H", 0x4e216800, 1, 2)
		a.op("VST1 [V2.H8], (R0)")
	})
	a.fn("fromHalfNEON", "fromHalfNEON is fromHalfPortable for n elements, a multiple of 8 and at least that.",
		arg{"dst", "*float32", "R0"}, arg{"h", "*uint16", "R1"}, n, arg{"scale", "float32", "V4"})
	loop(16, 32, func() {
		a.op("VLD1 (R1), [V2.H8]")
		two("FCVTL 4S", 0x0e217800, 2, 0)
		two("FCVTL2 4S", 0x4e217800, 2, 1)
		a.vector("FMUL", 0, 0, 4)
		a.vector("FMUL", 1, 1, 4)
		a.op("VST1 [V0.S4, V1.S4], (R0)")
	})
	a.fn("quantizeNEON", "quantizeNEON is quantizePortable for n elements, a multiple of 8 and at least that.",
		arg{"dst", "*byte", "R0"}, arg{"x", "*float32", "R1"}, n, arg{"zero", "int", "R3"},
		arg{"scale", "float32", "V4"}, arg{"lo", "float32", "V5"}, arg{"hi", "float32", "V6"})
	a.op("VDUP R3, V7.S4")
	loop(32, 8, func() {
		a.op("VLD1 (R1), [V0.S4, V1.S4]")
		for v := range 2 {
			a.vector("FDIV", v, v, 4)
			a.vector("FMAXNM", v, v, 5) // of NaN the other operand
			a.vector("FMIN", v, v, 6)
			two("FCVTNS 4S", 0x4e21a800, v, v)
			a.op("VADD V7.S4, V%[1]d.S4, V%[1]d.S4", v)
		}
		two("XTN 4H", 0x0e612800, 0, 2)
		two("XTN2 8H", 0x4e612800, 1, 2)
		two("XTN 8B", 0x0e212800, 2, 2)
		a.op("VST1 [V2.B8], (R0)")
	})
	for _, f := range []struct {
		name  string
		widen int
	}{{"dequantizeSignedNEON", 0x0f00a400}, {"dequantizeUnsignedNEON", 0x2f00a400}} {
		a.fn(f.name, f.name+" is dequantizePortable for n elements, a multiple of 8 and at least that.",
			arg{"dst", "*float32", "R0"}, arg{"x", "*byte", "R1"}, n, arg{"zero", "int", "R3"}, arg{"scale", "float32", "V4"})
		a.op("VDUP R3, V7.S4")
		loop(8, 32, func() {
			a.op("VLD1 (R1), [V2.B8]")
			two("XTL 8H", f.widen|8<<16, 2, 2)
			two("XTL 4S", f.widen|16<<16, 2, 0)
			two("XTL2 4S", f.widen|1<<30|16<<16, 2, 1)
			for v := range 2 {
				a.op("VSUB V7.S4, V%[1]d.S4, V%[1]d.S4", v)
				two("SCVTF 4S", 0x4e21d800, v, v)
				a.vector("FMUL", v, v, 4)
			}
			a.op("VST1 [V0.S4, V1.S4], (R0)")
		})
	}
	a.fn("extremesNEON", "extremesNEON widens least and most, four lanes each, by n elements, none of which is\nNaN. n is a multiple of 8 and at least that.",
		arg{"least", "*float32", "R0"}, arg{"x", "*float32", "R1"}, n, arg{"most", "*float32", "R3"})
	a.op("VLD1 (R0), [V4.S4]")
	a.op("VLD1 (R3), [V5.S4]")
	a.op("VORR V4.B16, V4.B16, V6.B16")
	a.op("VORR V5.B16, V5.B16, V7.B16")
	a.label("eight")
	a.op("VLD1.P 32(R1), [V0.S4, V1.S4]")
	a.vector("FMIN", 4, 4, 0)
	a.vector("FMAX", 5, 5, 0)
	a.vector("FMIN", 6, 6, 1)
	a.vector("FMAX", 7, 7, 1)
	a.op("SUBS $8, R2")
	a.op("BNE eight")
	a.vector("FMIN", 4, 4, 6)
	a.vector("FMAX", 5, 5, 7)
	a.op("VST1 [V4.S4], (R0)")
	a.op("VST1 [V5.S4], (R3)")
	a.op("RET")
}
