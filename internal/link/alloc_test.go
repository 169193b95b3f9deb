//go:build !race

package link_test

import (
	"testing"
)

// Once warm a round trip allocates nothing, at either end. (Under the race
// detector sync.Pool forgets at random, so this file is not built there.)
func TestNoAllocations(t *testing.T) {
	for _, size := range []int{0, 4 << 10, 1 << 20} {
		c, err := echoOver(t, patient, patient)
		if err != nil {
			t.Fatal(err)
		}
		p := payload(size)
		if n := testing.AllocsPerRun(200, func() { roundTrip(t, c, p) }); n != 0 {
			t.Errorf("a round trip of %d bytes allocates %v times", size, n)
		}
		p.Release()
	}
}
