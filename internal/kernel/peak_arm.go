//go:build !noasm

package kernel

func spin(rounds int) (flops int) {
	if !neon {
		return spinTile(rounds)
	}
	peakNEON(rounds)
	return 2 * 96 * rounds
}
