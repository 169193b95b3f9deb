package kernel

import (
	"slices"
	"strings"
)

// Cores that issue in order, as Linux lists them in /proc/cpuinfo: implementer and
// part of MIDR_EL1 (Arm ARM DDI 0487, D19.2; the parts' technical reference
// manuals).
var inOrderCores = [][2]string{
	{"0x41", "0xd03"}, // Arm Cortex-A53
	{"0x41", "0xd04"}, // A35
	{"0x41", "0xd05"}, // A55
	{"0x41", "0xd02"}, // A34
	{"0x41", "0xd46"}, // A510
	{"0x41", "0xd80"}, // A520
	{"0x51", "0x801"}, // Qualcomm Kryo 2xx Silver, of A53
	{"0x51", "0x803"}, // 3xx Silver, of A55
	{"0x51", "0x805"}, // 4xx Silver, of A55
}

// allInOrder says whether cpuinfo, in the form of arm64's /proc/cpuinfo, lists cores
// and all of them issue in order. Beside a big core, little ones do the smaller
// part of the work, so it has its way. A core that is not known counts as big.
func allInOrder(cpuinfo string) bool {
	implementer, cores := "", 0
	for line := range strings.Lines(cpuinfo) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.ToLower(strings.TrimSpace(value))
		switch strings.TrimSpace(name) {
		case "CPU implementer":
			implementer = value
		case "CPU part":
			if !slices.Contains(inOrderCores, [2]string{implementer, value}) {
				return false
			}
			cores++
		}
	}
	return cores > 0
}
