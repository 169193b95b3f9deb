//go:build noasm || !(amd64 || arm64 || arm)

package kernel

func spin(rounds int) (flops int) { return spinTile(rounds) }
