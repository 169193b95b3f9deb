package experiment

import (
	"fmt"
	"os"
)

// resident is a process's resident memory in MB, of proc(5) statm; 0 where
// there is none.
func resident(process string) float64 {
	text, err := os.ReadFile("/proc/" + process + "/statm")
	if err != nil {
		return 0
	}
	var total, pages float64
	_, _ = fmt.Sscan(string(text), &total, &pages)
	return pages * float64(os.Getpagesize()) / 1e6
}
