package kernel

import (
	"fmt"
	"testing"
)

func TestAllInOrder(t *testing.T) {
	cpuinfo := func(cores ...[2]string) (text string) {
		for i, c := range cores {
			text += fmt.Sprintf("processor\t: %d\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\nCPU implementer\t: %s\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 4\n\n", i, c[0], c[1])
		}
		return text + "Model\t\t: A board\n"
	}
	a53, a55, a72, kryo := [2]string{"0x41", "0xd03"}, [2]string{"0x41", "0xd05"}, [2]string{"0x41", "0xd08"}, [2]string{"0x51", "0x805"}
	for _, c := range []struct {
		name, text string
		want       bool
	}{
		{"Raspberry Pi 3", cpuinfo(a53, a53, a53, a53), true},
		{"Raspberry Pi 4", cpuinfo(a72, a72, a72, a72), false},
		{"little cores of two kinds", cpuinfo(a53, a55), true},
		{"big and little", cpuinfo(a53, a53, a53, a53, a72, a72), false},
		{"another implementer's little cores", cpuinfo(kryo), true},
		{"the part of another implementer", cpuinfo([2]string{"0x48", "0xd03"}), false},
		{"capitals", cpuinfo([2]string{"0x41", "0xD03"}), true},
		{"a core nobody knows", cpuinfo([2]string{"0x41", "0xfff"}), false},
		{"x86", "vendor_id\t: GenuineIntel\nmodel\t\t: 143\n", false},
		{"no colon", "CPU implementer\nCPU part\n", false},
		{"nothing", "", false},
	} {
		if got := allInOrder(c.text); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}
