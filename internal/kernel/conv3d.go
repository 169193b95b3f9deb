package kernel

import (
	"fmt"
	"math"
	"sync/atomic"
)

// Conv3D is the geometry of a convolution of two or three dimensions: of three,
// x [N,C,D,H,W], filters [M, C/Groups, KD, KH, KW], result [N,M,OD,OH,OW]. D is
// 0 for two, and so is every other size of depth.
type Conv3D struct {
	Conv2D
	D         int `json:",omitzero"`
	KD        int `json:",omitzero"`
	StrideD   int `json:",omitzero"`
	PadFront  int `json:",omitzero"`
	PadBack   int `json:",omitzero"`
	DilationD int `json:",omitzero"`
	OD        int `json:",omitzero"`
}

// Deep says whether there are three dimensions.
func (g Conv3D) Deep() bool { return g.D != 0 }

// InputCells is the number of cells of one map of x.
func (g Conv3D) InputCells() int { return max(g.D, 1) * g.H * g.W }

// OutputCells is the number of cells of one map of the result.
func (g Conv3D) OutputCells() int { return max(g.OD, 1) * g.OH * g.OW }

// Taps is the number of weights with which a filter sees one channel.
func (g Conv3D) Taps() int { return max(g.KD, 1) * g.KH * g.KW }

// K is the number of products in an output element.
func (g Conv3D) K() int { return g.C / g.Groups * g.Taps() }

// layer is the convolution of two dimensions that gives one plane of the result:
// the KD planes of x that are seen are its channels, those of one of x's channels
// beside each other, as their weights lie in a filter.
func (g *Conv3D) layer() Conv2D {
	l := g.Conv2D
	l.N, l.C = 1, g.C*g.KD
	return l
}

// Validate is Conv2D's, for all axes.
func (g Conv3D) Validate() error {
	if err := g.Conv2D.Validate(); err != nil || g == (Conv3D{Conv2D: g.Conv2D}) {
		return err
	}
	alongDepth := Conv2D{
		N: g.N, C: g.C, H: g.D, W: 1, M: g.M, KH: g.KD, KW: 1, StrideH: g.StrideD, StrideW: 1,
		PadTop: g.PadFront, PadBottom: g.PadBack, DilationH: g.DilationD, DilationW: 1, Groups: g.Groups, OH: g.OD, OW: 1,
	}
	if err := alongDepth.Validate(); err != nil {
		return fmt.Errorf("along its depth: %w", err)
	}
	if g.C > math.MaxInt32/g.KD {
		return fmt.Errorf("convolution: a filter of %d planes of %d channels is too large", g.KD, g.C)
	}
	if err := g.layer().Validate(); err != nil {
		return fmt.Errorf("plane by plane: %w", err)
	}
	for _, cells := range [][4]int{{g.N, g.C, g.D, g.H * g.W}, {g.N, g.M, g.OD, g.OH * g.OW}} {
		n := 1
		for _, size := range cells {
			if n > math.MaxInt/8/size {
				return fmt.Errorf("convolution: a map of %v is too large", cells)
			}
			n *= size
		}
	}
	return nil
}

// DeepConv is a convolution of three dimensions, computed plane by plane: Conv of
// the planes that a plane of the result sees. Like Conv it is safe for
// concurrent use.
type DeepConv struct {
	g     Conv3D
	rows  int
	plane *Conv
}

// NewDeepConv is NewConv for filters w [rows, C/Groups, KD, KH, KW]; g must be valid
// and have three dimensions.
func NewDeepConv(g Conv3D, w []float32, rows int) *DeepConv {
	if err := g.Validate(); err != nil {
		panic(err)
	}
	return &DeepConv{g, rows, NewConv(g.layer(), w, rows)}
}

// Run is Conv's, without anything that follows: a sum is one chain over channel,
// plane, row and column of the filter, in that order, and planes beyond the ends
// take part as zeros.
func (c *DeepConv) Run(p *Pool, dst, x []float32, stop *atomic.Bool) bool {
	g := &c.g
	area, cells := g.H*g.W, g.OH*g.OW
	need("dst", len(dst), g.N*c.rows*g.OD*cells)
	need("x", len(x), g.N*g.C*g.D*area)
	scratch := buffers.get()
	defer buffers.put(scratch)
	seen := scratch.sized(g.C*g.KD*area + c.rows*cells)
	seen, result := seen[:g.C*g.KD*area], seen[g.C*g.KD*area:]
	for image := range g.N {
		for plane := range g.OD {
			c.gather(seen, x[image*g.C*g.D*area:][:g.C*g.D*area], plane)
			if !c.plane.Run(p, result, seen, After{}, stop) {
				return false
			}
			for m := range c.rows {
				copy(dst[((image*c.rows+m)*g.OD+plane)*cells:][:cells], result[m*cells:])
			}
		}
	}
	return true
}

// gather copies to dst [C·KD,H,W] what a plane of the result sees of x [C,D,H,W].
func (c *DeepConv) gather(dst, x []float32, plane int) {
	g := &c.g
	area := g.H * g.W
	for channel := range g.C {
		for k := range g.KD {
			to := dst[(channel*g.KD+k)*area:][:area]
			if d := plane*g.StrideD - g.PadFront + k*g.DilationD; d >= 0 && d < g.D {
				copy(to, x[(channel*g.D+d)*area:])
			} else {
				clear(to)
			}
		}
	}
}
