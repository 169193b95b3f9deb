package tensor

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestDropProgram looks at how much of files the process has in memory.
func TestDropProgram(t *testing.T) {
	resident := func() int {
		status, err := os.ReadFile("/proc/self/status") // proc_pid_status(5)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`RssFile:\s*(\d+) kB`).FindSubmatch(status)
		if m == nil {
			t.Skip("this system does not count the pages of files")
		}
		kb, _ := strconv.Atoi(string(m[1]))
		return kb
	}
	resident() // what it takes to look is there before and after
	before := resident()
	DropProgram()
	if after := resident(); after >= before {
		t.Errorf("%d kB of files in memory before, %d kB after", before, after)
	}
}
