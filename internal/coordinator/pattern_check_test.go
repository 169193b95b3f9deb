//go:build check

package coordinator_test

import (
	"fmt"
	"testing"

	"starling/internal/plan"
)

// Every manner of splitting, k ≤ 8, r ≤ 3 and copies over workers, of one random layer
// each; of the sets of dead workers that the cover allows for 64. TestDecodeRandom has
// all.
func TestEveryPattern(t *testing.T) {
	for _, m := range manners {
		t.Run(fmt.Sprintf("%+v", m), func(t *testing.T) {
			t.Parallel()
			r := random(t)
			for _, opt := range ways(8, 3) {
				opt.Split = m.split
				g := randomLayer(r, m, opt.Data, 3)
				patterns(t, r, g, normal(r, g.Inputs[0].Shape...), opt, 64)
			}
		})
	}
}

// ways are all codes up to k and r, and copies.
func ways(k, r int) (all []plan.Options) {
	for data := 1; data <= k; data++ {
		for parities := range r + 1 {
			all = append(all, plan.Options{Data: data, Parity: parities})
		}
		all = append(all, plan.Options{Data: data, Redundancy: plan.Replicate})
	}
	return all
}
