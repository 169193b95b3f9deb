//go:build (!amd64 && !arm64) || noasm

package kernel

func toHalf(dst []uint16, x []float32, scale float32) { toHalfPortable(dst, x, scale) }

func fromHalf(dst []float32, h []uint16, scale float32) { fromHalfPortable(dst, h, scale) }

func extremes(x []float32) (least, most float32) { return extremesPortable(x) }
