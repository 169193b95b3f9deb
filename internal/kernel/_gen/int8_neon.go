package main

import "fmt"

// Integer products for arm64. What Go's assembler lacks is encoded (Arm ARM DDI
// 0487, C7.2).

// simd emits a vector instruction with registers d, n and m.
func (a *asm) simd(name string, base, m, n, d int) {
	a.op("WORD $0x%08x // %s V%d, V%d, V%d", base|m<<16|n<<5|d, name, m, n, d)
}

// sdot is Vd.4S += Vn.16B · Vm.4B[lane]; smlal is Vd.4S += Vn.4H · Vm.H[lane], with
// high of the upper half of Vn.
func (a *asm) sdot(d, n, m, lane int) { a.simd("SDOT", 0x4f80e000|lane&1<<21|lane>>1<<11, m, n, d) }

func (a *asm) smlal(d, n, m, lane int, high bool) {
	base := 0x0f402000 | lane&1<<20 | lane>>1&1<<21 | lane>>2<<11
	if high {
		base |= 1 << 30
	}
	a.simd("SMLAL", base, m, n, d)
}

func mulInt8NEON(a *asm) {
	for _, f := range []struct {
		name, doc string
		pairs     bool
	}{{"mulBytesNEON", "all bytes are signed (SDOT)", false}, {"mulPairsNEON", "lanes are pairs of int16", true}} {
		a.fn(f.name, fmt.Sprintf("%s is multiplyPortable for tiles of 12×8; %s. rows is a multiple of 4, lanes and\nrows are at least 1.", f.name, f.doc),
			arg{"c", "*int32", "R0"}, arg{"a", "*uint32", "R1"}, arg{"b", "*uint32", "R2"}, arg{"lanes", "int", "R3"}, arg{"rows", "int", "R4"})
		a.note("R0 c; R1 a, runs on from tile to tile; R2 b; R5 b at the current lane; R6 lanes left; R4 rows left")
		a.note("V8..V31 the tile, two registers a row; V0..V2 lanes of a; V3, V4 a row of b")
		a.label("next")
		for _, rows := range []int{12, 8, 4} {
			a.op("CMP $%d, R4", rows)
			a.op("BGE rows%d", rows)
		}
		a.op("RET")
		for _, rows := range []int{12, 8, 4} {
			a.label(fmt.Sprintf("rows%d", rows))
			a.zero(8, 2*rows)
			a.op("MOVD R2, R5")
			a.op("MOVD R3, R6")
			a.label(fmt.Sprintf("lane%d", rows))
			for i := range rows / 4 {
				a.op("FMOVQ %d(R1), F%d", 16*i, i)
			}
			if f.pairs {
				a.op("VLD2.P 32(R5), [V3.H8, V4.H8]")
			} else {
				a.op("VLD1.P 32(R5), [V3.B16, V4.B16]")
			}
			a.op("ADD $%d, R1", 4*rows)
			for i := range rows {
				if f.pairs {
					for h := range 2 {
						a.smlal(8+2*i, 3+h, i/4, i%4*2+h, false)
						a.smlal(9+2*i, 3+h, i/4, i%4*2+h, true)
					}
				} else {
					a.sdot(8+2*i, 3, i/4, i%4)
					a.sdot(9+2*i, 4, i/4, i%4)
				}
			}
			a.op("SUBS $1, R6")
			a.op("BNE lane%d", rows)
			for i := 0; i < 2*rows; i += 4 {
				a.op("VST1.P [%s], 64(R0)", registers(8+i))
			}
			a.op("SUB $%d, R4", rows)
			a.op("B next")
		}
	}
}

func packInt8NEON(a *asm) {
	for _, f := range []struct {
		name string
		per  int
	}{{"packBytesNEON", 4}, {"packPairsNEON", 2}} {
		a.fn(f.name, fmt.Sprintf("%s is packRunsPortable for %d values in a lane and panels of 8 columns. Runs are read and\nwritten 8 cells long.", f.name, f.per),
			arg{"dst", "*uint32", "R0"}, arg{"src", "*byte", "R1"}, arg{"offs", "*int32", "R2"}, arg{"runs", "*run8", "R3"}, arg{"count", "int", "R4"},
			arg{"lanes", "int", "R5"}, arg{"flip", "int", "R6"})
		a.note("R0 dst at the current lane; R2 offsets; R3 runs; R5 lanes left; R7..R10 values of the lane; R11 run; R12 runs left;")
		a.note("R13 offset of the run, then cells; R14 where it goes; V0..V3 cells; V4 what is flipped")
		a.op("VDUP R6, V4.B16")
		a.label("lane")
		for i := range f.per {
			a.op("MOVW %d(R2), R%d", 4*i, 7+i)
			a.op("ADD R1, R%d", 7+i)
		}
		a.op("MOVD R3, R11")
		a.op("MOVD R4, R12")
		a.label("run")
		a.op("MOVD (R11), R13")
		a.op("MOVD 8(R11), R14")
		a.op("ADD R14<<2, R0, R14")
		for i := range f.per {
			a.op("ADD R13, R%d, R15", 7+i)
			a.op("VLD1 (R15), [V%d.B8]", i)
			a.op("VEOR V4.B16, V%[1]d.B16, V%[1]d.B16", i)
		}
		if f.per == 4 {
			a.op("VST4 [V0.B8, V1.B8, V2.B8, V3.B8], (R14)")
		} else {
			a.simd("UXTL", 0x2f08a400, 0, 0, 0)
			a.simd("UXTL", 0x2f08a400, 0, 1, 1)
			a.op("VST2 [V0.H8, V1.H8], (R14)")
		}
		a.op("ADD $16, R11")
		a.op("SUBS $1, R12")
		a.op("BNE run")
		a.op("ADD $%d, R2", 4*f.per)
		a.op("ADD $32, R0")
		a.op("SUBS $1, R5")
		a.op("BNE lane")
		a.op("RET")
	}
}

// finishInt8NEON writes what makes bytes of sums, eight at a time.
func finishInt8NEON(a *asm) {
	for _, f := range []struct {
		name    string
		eachRow bool
	}{{"requantRowsNEON", true}, {"requantColsNEON", false}} {
		twin := "requantColsPortable"
		if f.eachRow {
			twin = "requantRowsPortable"
		}
		a.fn(f.name, f.name+" is "+twin+". rows is at least 1, cols a multiple of 8 and at least that.",
			arg{"dst", "*byte", "R0"}, arg{"ldd", "int", "R1"}, arg{"c", "*int32", "R2"}, arg{"ldc", "int", "R3"}, arg{"rows", "int", "R4"}, arg{"cols", "int", "R5"},
			arg{"add", "*int32", "R6"}, arg{"scale", "*float32", "R7"}, arg{"zero", "int", "R8"}, arg{"lo", "float32", "V16"}, arg{"hi", "float32", "V17"})
		a.note("R9 dst, R10 sums, R11 terms and R12 scales at the column; R13 columns left")
		a.note("V0, V1 sums; V2, V3 terms; V4, V5 scales; V16, V17 bounds; V18 zero point")
		a.op("VDUP R8, V18.S4")
		a.op("LSL $2, R3")
		a.label("row")
		a.op("MOVD R0, R9")
		a.op("MOVD R2, R10")
		a.op("MOVD R6, R11")
		a.op("MOVD R7, R12")
		a.op("MOVD R5, R13")
		if f.eachRow {
			for i := range 2 {
				a.op("VLD1R (R6), [V%d.S4]", 2+i)
				a.op("VLD1R (R7), [V%d.S4]", 4+i)
			}
			a.op("ADD $4, R6")
			a.op("ADD $4, R7")
		}
		a.label("cols")
		a.op("VLD1.P 32(R10), [V0.S4, V1.S4]")
		if !f.eachRow {
			a.op("VLD1.P 32(R11), [V2.S4, V3.S4]")
			a.op("VLD1.P 32(R12), [V4.S4, V5.S4]")
		}
		for i := range 2 {
			a.op("VADD V%d.S4, V%d.S4, V%d.S4", 2+i, i, i)
			a.simd("SCVTF", 0x4e21d800, 0, i, i)
			a.simd("FMUL", 0x6e20dc00, 4+i, i, i)
			a.simd("FMAXNM", 0x4e20c400, 16, i, i)
			a.simd("FMINNM", 0x4ea0c400, 17, i, i)
			a.simd("FCVTNS", 0x4e21a800, 0, i, i)
			a.op("VADD V18.S4, V%[1]d.S4, V%[1]d.S4", i)
		}
		a.simd("XTN", 0x0e612800, 0, 0, 0)
		a.simd("XTN2", 0x4e612800, 0, 1, 0)
		a.simd("XTN", 0x0e212800, 0, 0, 0)
		a.op("VST1.P [V0.B8], 8(R9)")
		a.op("SUBS $8, R13")
		a.op("BNE cols")
		a.op("ADD R1, R0")
		a.op("ADD R3, R2")
		a.op("SUBS $1, R4")
		a.op("BNE row")
		a.op("RET")
	}
}

// gemvInt8NEON multiplies one row of weights by a vector.
func gemvInt8NEON(a *asm) {
	for _, f := range []struct {
		name, doc string
		dot       int
	}{
		{"dotSignedNEON", "signed bytes", 0x4e809400},
		{"dotUnsignedNEON", "unsigned bytes", 0x6e809400},
	} {
		a.fn(f.name, f.name+" is the product of two vectors of "+f.doc+" (SDOT, UDOT), over 64·groups columns. groups is at\nleast 1.",
			arg{"dst", "*int32", "R0"}, arg{"w", "*byte", "R1"}, arg{"x", "*byte", "R2"}, arg{"groups", "int", "R3"})
		a.zero(0, 4)
		a.label("group")
		a.op("PRFM 512(R1), PLDL1STRM")
		a.op("VLD1.P 64(R1), [V4.B16, V5.B16, V6.B16, V7.B16]")
		a.op("VLD1.P 64(R2), [V16.B16, V17.B16, V18.B16, V19.B16]")
		for i := range 4 {
			a.simd("DOT", f.dot, 16+i, 4+i, i)
		}
		a.op("SUBS $1, R3")
		a.op("BNE group")
		sumNEON(a)
	}
	for _, f := range []struct {
		name, doc, typ string
		widen          int
	}{
		{"gemvSignedNEON", "signed bytes", "*byte", 0x0f08a400},
		{"gemvUnsignedNEON", "unsigned bytes", "*byte", 0x2f08a400},
		{"gemvWideNEON", "int16", "*int16", 0},
	} {
		a.fn(f.name, f.name+" is the product of one row of weights, "+f.doc+", and int16, over 16·groups columns. groups is at least 1.",
			arg{"dst", "*int32", "R0"}, arg{"w", f.typ, "R1"}, arg{"x", "*int16", "R2"}, arg{"groups", "int", "R3"})
		a.zero(0, 4)
		a.label("group")
		if f.widen == 0 {
			a.op("VLD1.P 32(R1), [V4.H8, V5.H8]")
		} else {
			a.op("VLD1.P 16(R1), [V6.B16]")
			a.simd("XTL", f.widen, 0, 6, 4)
			a.simd("XTL2", f.widen|1<<30, 0, 6, 5)
		}
		a.op("VLD1.P 32(R2), [V16.H8, V17.H8]")
		for i := range 2 {
			a.simd("SMLAL", 0x0e608000, 16+i, 4+i, 2*i)
			a.simd("SMLAL2", 0x4e608000, 16+i, 4+i, 2*i+1)
		}
		a.op("SUBS $1, R3")
		a.op("BNE group")
		sumNEON(a)
	}
}

// sumNEON adds the lanes of V0..V3 and returns.
func sumNEON(a *asm) {
	a.op("VADD V1.S4, V0.S4, V0.S4")
	a.op("VADD V3.S4, V2.S4, V2.S4")
	a.op("VADD V2.S4, V0.S4, V0.S4")
	a.simd("ADDV", 0x4eb1b800, 0, 0, 0)
	a.op("FMOVS F0, (R0)")
	a.op("RET")
}

// depthwiseInt8NEON convolves with pairs of taps, 8 columns at a time.
func depthwiseInt8NEON(a *asm) {
	for _, f := range []struct {
		name, doc string
		widen     int
	}{{"depthwiseSignedNEON", "signed", 0x0f08a400}, {"depthwiseUnsignedNEON", "unsigned", 0x2f08a400}} {
		a.fn(f.name, f.name+" is depthwiseBytesPortable for "+f.doc+" bytes. Rows are read and written in\neights. pairs, rows and cols are at least 1.",
			arg{"dst", "*int32", "R0"}, arg{"src", "*byte", "R1"}, arg{"w", "*int32", "R2"}, arg{"off", "*int32", "R3"},
			arg{"pairs", "int", "R4"}, arg{"rows", "int", "R5"}, arg{"cols", "int", "R6"}, arg{"step", "int", "R7"})
		a.note("R8 columns left; R9 dst and R10 src at the column; R11 w; R12 off; R13 pairs left; R14, R15 cells")
		a.note("V0, V1 sums; V2 a pair of weights; V3, V4 cells")
		a.label("row")
		a.op("MOVD R6, R8")
		a.op("MOVD R0, R9")
		a.op("MOVD R1, R10")
		a.label("cols")
		a.zero(0, 2)
		a.op("MOVD R2, R11")
		a.op("MOVD R3, R12")
		a.op("MOVD R4, R13")
		a.label("pair")
		a.op("VLD1R.P 4(R11), [V2.S4]")
		a.op("MOVW.P 4(R12), R14")
		a.op("MOVW.P 4(R12), R15")
		a.op("ADD R10, R14")
		a.op("ADD R10, R15")
		a.op("VLD1 (R14), [V3.B8]")
		a.op("VLD1 (R15), [V4.B8]")
		for h := range 2 {
			a.simd("XTL", f.widen, 0, 3+h, 3+h)
			a.smlal(0, 3+h, 2, h, false)
			a.smlal(1, 3+h, 2, h, true)
		}
		a.op("SUBS $1, R13")
		a.op("BNE pair")
		a.op("VST1.P [V0.S4, V1.S4], 32(R9)")
		a.op("ADD $8, R10")
		a.op("SUBS $8, R8")
		a.op("BGT cols")
		a.op("ADD R6<<2, R0")
		a.op("ADD R7, R1")
		a.op("SUBS $1, R5")
		a.op("BNE row")
		a.op("RET")
	}
}
