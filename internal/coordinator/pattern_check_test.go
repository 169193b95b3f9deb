//go:build check

package coordinator_test

import "testing"

// Every k ≤ 8, r ≤ 3 and every set of dead workers that the code covers, over
// three random layers each.
func TestEveryPattern(t *testing.T) {
	r := random(t)
	for k := 1; k <= 8; k++ {
		for parities := range 4 {
			for range 3 {
				testPatterns(t, r, k, parities, 1<<11)
			}
		}
	}
}
