//go:build !noasm

package kernel

func spin(rounds int) (flops int) {
	switch {
	case avx512:
		peakAVX512(rounds)
		return 2 * 384 * rounds
	case avx2:
		peakAVX2(rounds)
		return 2 * 96 * rounds
	}
	return spinTile(rounds)
}
