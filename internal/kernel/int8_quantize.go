package kernel

// QuantizeBytes writes y = saturate(roundHalfToEven(x / scale) + zero), int8 if
// signed, else uint8; NaN becomes the least byte (ONNX QuantizeLinear 21). dst and x
// have the same length.
func QuantizeBytes(dst []byte, x []float32, scale float32, signed bool, zero int32) {
	need("dst", len(dst), len(x))
	o := Output{Signed: signed, Zero: zero}
	quantize(dst, x, scale, o.limits())
}

// DequantizeBytes writes y = (x − zero)·scale (ONNX DequantizeLinear 21). dst has
// the length of x.Data.
func DequantizeBytes(dst []float32, x Bytes, scale float32) {
	need("dst", len(dst), len(x.Data))
	dequantize(dst, x.Data, x.Signed, scale, x.Zero)
}
