//go:build !noasm

package kernel

func spin(rounds int) (flops int) {
	if !avx2 {
		return spinTile(rounds)
	}
	peakAVX2(rounds)
	return 2 * 96 * rounds
}
