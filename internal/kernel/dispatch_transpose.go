//go:build !amd64 || noasm

package kernel

func transposed(dst []float32, ldd int, src []float32, lds, rows, cols int, end ending) {
	transposedPortable(dst, ldd, src, lds, rows, cols, end)
}
