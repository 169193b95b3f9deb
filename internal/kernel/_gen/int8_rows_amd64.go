package main

import "fmt"

// What follows integer products on amd64, and those of one row or one channel.

var (
	finishArgs = []arg{{"ldd", "int", "SI"}, {"c", "*int32", "DX"}, {"ldc", "int", "R8"}, {"rows", "int", "R9"}, {"cols", "int", "R10"}, {"add", "*int32", "R11"}}
	quantArgs  = []arg{{"scale", "*float32", "R12"}, {"zero", "int", "R13"}, {"lo", "float32", "2"}, {"hi", "float32", "3"}}
)

// finish writes what makes results of sums: eachRow says whether the terms belong to
// rows or to columns.
func finish(a *asm) {
	for _, f := range []struct {
		name    string
		eachRow bool
		quant   bool
		reg     string
		width   int
	}{
		{"requantRowsAVX2", true, true, "Y", 8},
		{"requantColsAVX2", false, true, "Y", 8},
		{"sumRowsAVX2", true, false, "Y", 8},
		{"sumColsAVX2", false, false, "Y", 8},
	} {
		finishOne(a, f.name, f.eachRow, f.quant, f.reg, f.width)
	}
}

func finish512(a *asm) {
	finishOne(a, "requantRowsAVX512", true, true, "Z", 16)
	finishOne(a, "requantColsAVX512", false, true, "Z", 16)
}

func finishOne(a *asm, name string, eachRow, quant bool, reg string, width int) {
	dst := arg{"dst", "*int32", "DI"}
	args := append([]arg{}, finishArgs...)
	if quant {
		dst.typ = "*byte"
		for _, g := range quantArgs {
			if g.typ == "float32" {
				g.reg = reg + g.reg
			}
			args = append(args, g)
		}
	}
	masked := reg == "Z"
	twin := map[bool]string{true: "requant", false: "sum"}[quant] + map[bool]string{true: "Rows", false: "Cols"}[eachRow]
	doc := fmt.Sprintf("%s is %sPortable. rows is at least 1", name, twin)
	if !masked {
		doc += fmt.Sprintf("; cols is a multiple of %d and at least that", width)
	}
	a.fn(name, doc+".", append([]arg{dst}, args...)...)
	a.note("DI dst; DX sums; SI, R8 bytes between their rows; R9 rows left; R10 columns; R11 terms; R12 scales; BX column")
	a.note("0 sums; 1 zero point; 2, 3 bounds; 4 the term; 5 the scale; 7 low bytes")
	if quant {
		a.op("VMOVD R13, X1")
		a.op("VPBROADCASTD X1, %s1", reg)
		if !masked {
			a.op("VPCMPEQD Y7, Y7, Y7")
			a.op("VPSRLD $24, Y7, Y7")
		}
	} else {
		a.op("SHLQ $2, SI")
	}
	a.op("SHLQ $2, R8")
	if masked {
		a.op("MOVQ R10, CX")
		a.op("ANDQ $15, CX")
		a.op("MOVQ $1, AX")
		a.op("SHLQ CX, AX")
		a.op("DECQ AX")
		a.op("KMOVW AX, K1")
		a.op("ANDQ $-16, R10")
	}
	a.label("row")
	if eachRow {
		a.op("VPBROADCASTD (R11), %s4", reg)
		a.op("ADDQ $4, R11")
		if quant {
			a.op("VBROADCASTSS (R12), %s5", reg)
			a.op("ADDQ $4, R12")
		}
	}
	mov := "VMOVDQU"
	if masked {
		mov = "VMOVDQU32"
	}
	body := func(tail bool) {
		k, z := "", ""
		if tail {
			k, z = "K1, ", ".Z"
		}
		a.op("%s%s (DX)(BX*4), %s%s0", mov, z, k, reg)
		if eachRow {
			a.op("VPADDD %[1]s4, %[1]s0, %[1]s0", reg)
		} else {
			a.op("VPADDD%[3]s (R11)(BX*4), %[1]s0, %[2]s%[1]s0", reg, k, z)
		}
		if !quant {
			a.op("%s %s0, (DI)(BX*4)", mov, reg)
			return
		}
		a.op("VCVTDQ2PS %[1]s0, %[1]s0", reg)
		if eachRow {
			a.op("VMULPS %[1]s5, %[1]s0, %[1]s0", reg)
		} else {
			a.op("VMULPS%[3]s (R12)(BX*4), %[1]s0, %[2]s%[1]s0", reg, k, z)
		}
		a.op("VMAXPS %[1]s2, %[1]s0, %[1]s0", reg)
		a.op("VMINPS %[1]s3, %[1]s0, %[1]s0", reg)
		a.op("VCVTPS2DQ %[1]s0, %[1]s0", reg)
		a.op("VPADDD %[1]s1, %[1]s0, %[1]s0", reg)
		switch {
		case tail:
			a.op("VPMOVDB Z0, K1, (DI)(BX*1)")
		case masked:
			a.op("VPMOVDB Z0, X0")
			a.op("VMOVDQU X0, (DI)(BX*1)")
		default:
			a.op("VPAND Y7, Y0, Y0")
			a.op("VEXTRACTI128 $1, Y0, X6")
			a.op("VPACKUSDW X6, X0, X0")
			a.op("VPACKUSWB X0, X0, X0")
			a.op("VMOVQ X0, (DI)(BX*1)")
		}
	}
	a.op("XORQ BX, BX")
	if masked {
		a.op("TESTQ R10, R10")
		a.op("JZ tail")
	}
	a.label("cols")
	body(false)
	a.op("ADDQ $%d, BX", width)
	a.op("CMPQ BX, R10")
	a.op("JLT cols")
	if masked {
		a.label("tail")
		a.op("TESTQ CX, CX")
		a.op("JZ next")
		body(true)
		a.label("next")
	}
	a.op("ADDQ SI, DI")
	a.op("ADDQ R8, DX")
	a.op("DECQ R9")
	a.op("JNZ row")
	a.end()
}

// outer adds the product of a column and a row to sums.
func outer(a *asm) {
	a.fn("addOuterAVX2", "addOuterAVX2 is addOuterPortable. rows is at least 1, cols a multiple of 8 and at least that.",
		arg{"c", "*int32", "DI"}, arg{"ldc", "int", "SI"}, arg{"u", "*int32", "R8"}, arg{"v", "*int32", "R9"}, arg{"rows", "int", "R10"}, arg{"cols", "int", "R11"})
	a.op("SHLQ $2, SI")
	a.label("row")
	a.op("VPBROADCASTD (R8), Y1")
	a.op("XORQ BX, BX")
	a.label("cols")
	a.op("VPMULLD (R9)(BX*4), Y1, Y0")
	a.op("VPADDD (DI)(BX*4), Y0, Y0")
	a.op("VMOVDQU Y0, (DI)(BX*4)")
	a.op("ADDQ $8, BX")
	a.op("CMPQ BX, R11")
	a.op("JLT cols")
	a.op("ADDQ $4, R8")
	a.op("ADDQ SI, DI")
	a.op("DECQ R10")
	a.op("JNZ row")
	a.end()
}

// widen makes int16 of bytes.
func widen(a *asm) {
	a.fn("widenAVX2", "widenAVX2 is widenPortable for 16·groups bytes. groups is at least 1.",
		arg{"dst", "*int16", "DI"}, arg{"x", "*byte", "SI"}, arg{"groups", "int", "CX"}, arg{"flip", "*[32]byte", "AX"})
	a.op("VMOVDQU (AX), X15")
	a.label("group")
	a.op("VPXOR (SI), X15, X0")
	a.op("VPMOVZXBW X0, Y0")
	a.op("VMOVDQU Y0, (DI)")
	a.op("ADDQ $16, SI")
	a.op("ADDQ $32, DI")
	a.op("DECQ CX")
	a.op("JNZ group")
	a.end()
}

// gemvBytes multiplies rows of weights in place, four at a time and then one, by
// 64 bytes; columns past the last are masked.
func gemvBytes(a *asm) {
	for _, f := range []struct{ name, doc, op string }{
		{"gemvSignedAVX512", "signed weights by unsigned bytes", "VPDPBUSD Z%[1]d, Z%[2]d, Z%[3]d"},
		{"gemvUnsignedAVX512", "unsigned weights by signed bytes", "VPDPBUSD Z%[2]d, Z%[1]d, Z%[3]d"},
	} {
		a.fn(f.name, f.name+" is gemvBytesPortable, "+f.doc+"; mask has k%64 bits set. rows and k are at least 1.",
			arg{"dst", "*int32", "DI"}, arg{"w", "*byte", "R8"}, arg{"x", "*byte", "BX"}, arg{"rows", "int", "R12"}, arg{"k", "int", "R13"}, arg{"mask", "uint64", "AX"})
		a.note("DI dst; R8..R11 rows of w; BX x; CX column; DX whole groups of 64 columns; Z0..Z3 sums; Z4 x; Z5..Z8 w")
		a.op("KMOVQ AX, K1")
		a.op("MOVQ R13, DX")
		a.op("ANDQ $-64, DX")
		for _, n := range []int{4, 1} {
			name := fmt.Sprintf("rows%d", n)
			ptr := []string{"R8", "R9", "R10", "R11"}[:n]
			a.op("SUBQ $%d, R12", n)
			a.op("JLT done%d", n)
			a.label(name)
			for i := range n {
				if i > 0 {
					a.op("LEAQ (%s)(R13*1), %s", ptr[i-1], ptr[i])
				}
				a.op("VPXORD Z%[1]d, Z%[1]d, Z%[1]d", i)
			}
			a.op("XORQ CX, CX")
			a.op("CMPQ CX, DX")
			a.op("JEQ %stail", name)
			a.label(name + "loop")
			a.op("VMOVDQU32 (BX)(CX*1), Z4")
			for i, p := range ptr {
				a.op("VMOVDQU32 (%s)(CX*1), Z%d", p, 5+i)
				a.op(f.op, 5+i, 4, i)
			}
			a.op("ADDQ $64, CX")
			a.op("CMPQ CX, DX")
			a.op("JLT %sloop", name)
			a.label(name + "tail")
			a.op("CMPQ CX, R13")
			a.op("JEQ %ssum", name)
			a.op("VMOVDQU8.Z (BX)(CX*1), K1, Z4")
			for i, p := range ptr {
				a.op("VMOVDQU8.Z (%s)(CX*1), K1, Z%d", p, 5+i)
				a.op(f.op, 5+i, 4, i)
			}
			a.label(name + "sum")
			for i := range n {
				a.op("VEXTRACTI64X4 $1, Z%d, Y9", i)
				a.op("VPADDD Y9, Y%[1]d, Y%[1]d", i)
				sum256(a, i)
				a.op("VMOVD X%d, %d(DI)", i, 4*i)
			}
			a.op("ADDQ $%d, DI", 4*n)
			a.op("LEAQ (%s)(R13*1), R8", ptr[n-1])
			a.op("SUBQ $%d, R12", n)
			a.op("JGE %s", name)
			a.label(fmt.Sprintf("done%d", n))
			a.op("ADDQ $%d, R12", n)
		}
		a.end()
	}
}

// sum256 adds the lanes of a register into its first one; register 9 is spent.
func sum256(a *asm, i int) {
	a.op("VEXTRACTI128 $1, Y%d, X9", i)
	a.op("VPADDD X9, X%[1]d, X%[1]d", i)
	a.op("VPSHUFD $0x4e, X%d, X9", i)
	a.op("VPADDD X9, X%[1]d, X%[1]d", i)
	a.op("VPSHUFD $0xb1, X%d, X9", i)
	a.op("VPADDD X9, X%[1]d, X%[1]d", i)
}

// gemvWide multiplies one row of weights by int16, 32 columns at a time.
func gemvWide(a *asm) {
	for _, f := range []struct{ name, doc, typ, load string }{
		{"gemvSignedAVX2", "signed bytes", "*byte", "VPMOVSXBW %d(SI), Y%d"},
		{"gemvUnsignedAVX2", "unsigned bytes", "*byte", "VPMOVZXBW %d(SI), Y%d"},
		{"gemvWideAVX2", "int16", "*int16", "VMOVDQU %d(SI), Y%d"},
	} {
		size := map[string]int{"*byte": 1, "*int16": 2}[f.typ]
		a.fn(f.name, f.name+" is the product of one row of weights, "+f.doc+", and int16, over 32·groups columns. groups is at least 1.",
			arg{"dst", "*int32", "DI"}, arg{"w", f.typ, "SI"}, arg{"x", "*int16", "BX"}, arg{"groups", "int", "CX"})
		a.note("DI dst; SI w; BX x; CX groups left; Y0, Y1 sums; Y2, Y3 w")
		a.op("VPXOR Y0, Y0, Y0")
		a.op("VPXOR Y1, Y1, Y1")
		a.label("group")
		for i := range 2 {
			a.op(f.load, 16*size*i, 2+i)
			a.op("VPMADDWD %d(BX), Y%d, Y%d", 32*i, 2+i, 2+i)
			a.op("VPADDD Y%d, Y%d, Y%d", 2+i, i, i)
		}
		a.op("ADDQ $%d, SI", 32*size)
		a.op("ADDQ $64, BX")
		a.op("DECQ CX")
		a.op("JNZ group")
		a.op("VPADDD Y1, Y0, Y0")
		sum256(a, 0)
		a.op("VMOVD X0, (DI)")
		a.end()
	}
}

// depthwiseBytes convolves with pairs of taps, 16 columns at a time.
func depthwiseBytes(a *asm) {
	for _, f := range []struct{ name, doc, load string }{
		{"depthwiseSignedAVX2", "signed", "VPMOVSXBW (%s)(BX*1), Y%d"},
		{"depthwiseUnsignedAVX2", "unsigned", "VPMOVZXBW (%s)(BX*1), Y%d"},
	} {
		a.fn(f.name, f.name+" is depthwiseBytesPortable for "+f.doc+" bytes. Rows are read and written\nin sixteens. pairs, rows and cols are at least 1.",
			arg{"dst", "*int32", "DI"}, arg{"src", "*byte", "SI"}, arg{"w", "*int32", "R8"}, arg{"off", "*int32", "R9"},
			arg{"pairs", "int", "R10"}, arg{"rows", "int", "R11"}, arg{"cols", "int", "R12"}, arg{"step", "int", "R13"})
		a.note("DI dst; SI row of src; R8 w; R9 off; R10 pairs; R11 rows left; R12 columns; R13 bytes of a row of src")
		a.note("BX column; CX pair; AX, DX cells of its taps; Y0, Y1 sums of columns 0-3, 8-11 and 4-7, 12-15; Y2, Y3 cells; Y6 w")
		a.label("row")
		a.op("XORQ BX, BX")
		a.label("cols")
		a.op("VPXOR Y0, Y0, Y0")
		a.op("VPXOR Y1, Y1, Y1")
		a.op("XORQ CX, CX")
		a.label("pair")
		a.op("MOVLQSX (R9)(CX*8), AX")
		a.op("MOVLQSX 4(R9)(CX*8), DX")
		a.op("ADDQ SI, AX")
		a.op("ADDQ SI, DX")
		a.op("VPBROADCASTD (R8)(CX*4), Y6")
		a.op(f.load, "AX", 2)
		a.op(f.load, "DX", 3)
		a.op("VPUNPCKLWD Y3, Y2, Y4")
		a.op("VPUNPCKHWD Y3, Y2, Y5")
		a.op("VPMADDWD Y4, Y6, Y4")
		a.op("VPMADDWD Y5, Y6, Y5")
		a.op("VPADDD Y4, Y0, Y0")
		a.op("VPADDD Y5, Y1, Y1")
		a.op("INCQ CX")
		a.op("CMPQ CX, R10")
		a.op("JLT pair")
		a.op("LEAQ (DI)(BX*4), AX")
		a.op("VMOVDQU X0, (AX)")
		a.op("VMOVDQU X1, 16(AX)")
		a.op("VEXTRACTI128 $1, Y0, 32(AX)")
		a.op("VEXTRACTI128 $1, Y1, 48(AX)")
		a.op("ADDQ $16, BX")
		a.op("CMPQ BX, R12")
		a.op("JLT cols")
		a.op("LEAQ (DI)(R12*4), DI")
		a.op("ADDQ R13, SI")
		a.op("DECQ R11")
		a.op("JNZ row")
		a.end()
	}
}

// patchBytes convolves patch by patch, see patchwork.
func patchBytes(a *asm) {
	a.fn("patchSumsVNNI", "patchSumsVNNI is patchSumsPortable for count patches; mask has a bit for each cell of the map, of 64.\nThe bounds are the caller's; count and groups are at least 1.",
		arg{"dst", "*int32", "DI"}, arg{"x", "*byte", "SI"}, arg{"w", "*uint32", "R8"}, arg{"patches", "*int32", "R9"},
		arg{"count", "int", "CX"}, arg{"groups", "int", "R10"}, arg{"picks", "*pick", "R11"}, arg{"mask", "int", "R13"},
		arg{"flip", "int", "AX"}, arg{"pad", "int", "BX"})
	a.note("DI dst; SI x; R8 w; R9 patches; CX patches left; R10 groups; R11 picks; DX dst of the patch; BX group; AX src and R12 pick of it")
	a.note("Z0 sums; Z1 cells; Z2 those picked; Z3 index; Z28 flip; Z29 pads; K1 cells that exist; K2 lanes; K3 places inside the map")
	a.op("VPBROADCASTB AX, Z28")
	a.op("VPBROADCASTB BX, Z29")
	a.op("KMOVQ R13, K1")
	a.label("patch")
	a.op("MOVLQSX (R9), DX")
	a.op("LEAQ (DI)(DX*4), DX")
	a.op("KMOVW 4(R9), K2")
	a.op("ADDQ $8, R9")
	a.op("VPXORD Z0, Z0, Z0")
	a.op("XORQ BX, BX")
	a.label("group")
	a.op("MOVLQSX (R9), AX")
	a.op("MOVLQSX 4(R9), R12")
	a.op("LEAQ (R12)(R12*8), R12") // a pick has 72 bytes
	a.op("LEAQ (R11)(R12*8), R12")
	a.op("VMOVDQU8.Z (SI)(AX*1), K1, Z1")
	a.op("VPXORD Z28, Z1, Z1")
	a.op("KMOVQ 64(R12), K3")
	a.op("VMOVDQU64 (R12), Z3")
	a.op("VMOVDQA64 Z29, Z2")
	a.op("VPERMB Z1, Z3, K3, Z2")
	a.op("VPDPBUSD.BCST (R8)(BX*4), Z2, Z0")
	a.op("ADDQ $8, R9")
	a.op("INCQ BX")
	a.op("CMPQ BX, R10")
	a.op("JLT group")
	a.op("VMOVDQU32 Z0, K2, (DX)")
	a.op("DECQ CX")
	a.op("JNZ patch")
	a.end()
}

// quantize and its inverse, eight elements at a time.
func quantize(a *asm) {
	n := arg{"n", "int", "CX"}
	a.fn("quantizeAVX2", "quantizeAVX2 is quantizePortable for n elements, a multiple of 8 and at least that.",
		arg{"dst", "*byte", "DI"}, arg{"x", "*float32", "SI"}, n, arg{"zero", "int", "AX"}, arg{"scale", "float32", "Y4"}, arg{"lo", "float32", "Y2"}, arg{"hi", "float32", "Y3"})
	a.op("VMOVD AX, X1")
	a.op("VPBROADCASTD X1, Y1")
	a.op("VPCMPEQD Y7, Y7, Y7")
	a.op("VPSRLD $24, Y7, Y7")
	a.label("eight")
	a.op("VMOVUPS (SI), Y0")
	a.op("VDIVPS Y4, Y0, Y0")
	a.op("VMAXPS Y2, Y0, Y0")
	a.op("VMINPS Y3, Y0, Y0")
	a.op("VCVTPS2DQ Y0, Y0")
	a.op("VPADDD Y1, Y0, Y0")
	a.op("VPAND Y7, Y0, Y0")
	a.op("VEXTRACTI128 $1, Y0, X6")
	a.op("VPACKUSDW X6, X0, X0")
	a.op("VPACKUSWB X0, X0, X0")
	a.op("VMOVQ X0, (DI)")
	a.op("ADDQ $32, SI")
	a.op("ADDQ $8, DI")
	a.op("SUBQ $8, CX")
	a.op("JNZ eight")
	a.end()
	for _, f := range []struct{ name, load string }{{"dequantizeSignedAVX2", "VPMOVSXBD"}, {"dequantizeUnsignedAVX2", "VPMOVZXBD"}} {
		a.fn(f.name, f.name+" is dequantizePortable for n elements, a multiple of 8 and at least that.",
			arg{"dst", "*float32", "DI"}, arg{"x", "*byte", "SI"}, n, arg{"zero", "int", "AX"}, arg{"scale", "float32", "Y4"})
		a.op("VMOVD AX, X1")
		a.op("VPBROADCASTD X1, Y1")
		a.label("eight")
		a.op("%s (SI), Y0", f.load)
		a.op("VPSUBD Y1, Y0, Y0")
		a.op("VCVTDQ2PS Y0, Y0")
		a.op("VMULPS Y4, Y0, Y0")
		a.op("VMOVUPS Y0, (DI)")
		a.op("ADDQ $8, SI")
		a.op("ADDQ $32, DI")
		a.op("SUBQ $8, CX")
		a.op("JNZ eight")
		a.end()
	}
}

// dealBytes separates bytes at even and odd places, 32 at a time.
func dealBytes(a *asm) {
	a.fn("dealBytesAVX2", "dealBytesAVX2 is dealBytesPortable for 16·groups pairs. groups is at least 1.",
		arg{"even", "*byte", "DI"}, arg{"odd", "*byte", "DX"}, arg{"x", "*byte", "SI"}, arg{"groups", "int", "CX"})
	a.op("VPCMPEQW X7, X7, X7")
	a.op("VPSRLW $8, X7, X7")
	a.label("group")
	a.op("VMOVDQU (SI), X0")
	a.op("VMOVDQU 16(SI), X1")
	a.op("VPAND X7, X0, X2")
	a.op("VPAND X7, X1, X3")
	a.op("VPACKUSWB X3, X2, X2")
	a.op("VPSRLW $8, X0, X0")
	a.op("VPSRLW $8, X1, X1")
	a.op("VPACKUSWB X1, X0, X0")
	a.op("VMOVDQU X2, (DI)")
	a.op("VMOVDQU X0, (DX)")
	a.op("ADDQ $32, SI")
	a.op("ADDQ $16, DI")
	a.op("ADDQ $16, DX")
	a.op("DECQ CX")
	a.op("JNZ group")
	a.end()
}
