package experiment

import (
	"math/rand/v2"
	"testing"
	"time"

	"starling/internal/plan"
	"starling/internal/rewrite"
	"starling/internal/zoo"
)

// The model of the air gives what can be worked out by hand.
func TestIdeal(t *testing.T) {
	g, err := zoo.Build("lenet5", 1)
	if err == nil {
		err = rewrite.Simplify(g)
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.New(g, plan.Options{Data: 4, Parity: 1, Split: plan.Output})
	if err != nil {
		t.Fatal(err)
	}
	l := &p.Layers[0] // inputs of 400 values and results of 30: a frame or two
	took := func(m ideal) float64 {
		m.slice, m.rng = 15*time.Millisecond, rand.New(rand.NewPCG(1, 1))
		return m.layer(l)
	}
	if ms := took(ideal{wired: true, delay: 2}); ms != 19 {
		t.Errorf("wired: %v ms, want 2 there, 15 and 2 back", ms)
	}
	// Four inputs of two frames and one result in turn, each alone on the channel.
	frame := float64(frameBytes+frameHeaders) * 8 / 60e3
	least, most := 15+(4*2+1)*frame+5*0.7*0.18, 15+(5*2+5)*frame+10*1.3*0.18
	if ms := took(ideal{rate: 60}); ms < least || ms > most {
		t.Errorf("a channel of 60 Mbit/s: %v ms, want %v to %v", ms, least, most)
	}
	if slow, fast := took(ideal{rate: 6, delay: 1}), took(ideal{rate: 60, delay: 1}); slow < fast+8*frame*9 {
		t.Errorf("a tenth of the rate: %v ms, not longer enough than %v", slow, fast)
	}
	if lossy := took(ideal{rate: 60, per: 0.9}); lossy < took(ideal{rate: 60})+least-15 {
		t.Errorf("most frames sent again: %v ms", lossy)
	}
}
