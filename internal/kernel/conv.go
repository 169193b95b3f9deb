package kernel

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"starling/internal/tensor"
)

// Conv2D is the geometry of a two-dimensional convolution (ONNX Conv, opset 1
// and later; auto_pad resolved): x [N,C,H,W], filters [M, C/Groups, KH, KW],
// result [N,M,OH,OW]. Pads are in cells, at most 2³⁰ with the map.
type Conv2D struct {
	N, C, H, W                           int
	M, KH, KW                            int
	StrideH, StrideW                     int
	PadTop, PadLeft, PadBottom, PadRight int
	DilationH, DilationW                 int
	Groups                               int
	OH, OW                               int
}

// K is the number of products in an output element.
func (g Conv2D) K() int { return g.C / g.Groups * g.KH * g.KW }

// maxExtent bounds an axis with its pads and the reach of a filter, so that
// sums of coordinates fit in int32.
const maxExtent = 1 << 30

// Validate says whether the numbers are consistent and every array they
// describe can be indexed by an int (which has 32 bits on some devices).
func (g Conv2D) Validate() error {
	positive := []struct {
		name string
		v    int
	}{
		{"N", g.N},
		{"C", g.C},
		{"H", g.H},
		{"W", g.W},
		{"M", g.M},
		{"KH", g.KH},
		{"KW", g.KW},
		{"StrideH", g.StrideH},
		{"StrideW", g.StrideW},
		{"DilationH", g.DilationH},
		{"DilationW", g.DilationW},
		{"Groups", g.Groups},
		{"OH", g.OH},
		{"OW", g.OW},
	}
	for _, f := range positive {
		if f.v < 1 || f.v > maxExtent {
			return fmt.Errorf("convolution: %s is %d, outside [1, %d]", f.name, f.v, maxExtent)
		}
	}
	if g.C%g.Groups != 0 || g.M%g.Groups != 0 {
		return fmt.Errorf("convolution: %d groups do not divide %d input and %d output channels", g.Groups, g.C, g.M)
	}
	if err := axis("height", g.H, g.PadTop, g.PadBottom, g.KH, g.DilationH, g.StrideH, g.OH); err != nil {
		return err
	}
	if err := axis("width", g.W, g.PadLeft, g.PadRight, g.KW, g.DilationW, g.StrideW, g.OW); err != nil {
		return err
	}
	for _, a := range []struct {
		name string
		dims []int
		most int
	}{
		{"input map", []int{g.H, g.W}, maxExtent},
		{"output map", []int{g.OH, g.OW}, maxExtent},
		{"filter", []int{g.C / g.Groups, g.KH, g.KW}, maxExtent},
		{"input", []int{g.N, g.C, g.H, g.W}, math.MaxInt / 8},
		{"output", []int{g.N, g.M, g.OH, g.OW}, math.MaxInt / 8},
		{"weights", []int{g.Groups, g.M/g.Groups + maxTileN, g.C / g.Groups, g.KH, g.KW}, math.MaxInt / 8},
	} {
		n := 1
		for _, d := range a.dims {
			if n > a.most/d {
				return fmt.Errorf("convolution: the %s %v is too large", a.name, a.dims)
			}
			n *= d
		}
	}
	return nil
}

func axis(name string, size, before, after, kernel, dilation, stride, out int) error {
	if before < 0 || after < 0 || before > maxExtent || after > maxExtent {
		return fmt.Errorf("convolution: pads %d and %d of the %s are outside [0, %d]", before, after, name, maxExtent)
	}
	padded, reach := int64(size)+int64(before)+int64(after), int64(kernel-1)*int64(dilation)+1
	if padded > maxExtent || reach > padded {
		return fmt.Errorf("convolution: a filter of %s %d does not fit in %d cells", name, reach, padded)
	}
	if want := (padded-reach)/int64(stride) + 1; want != int64(out) {
		return fmt.Errorf("convolution: output %s is %d, must be %d", name, out, want)
	}
	return nil
}

// errRows is the panic of NewConv for filters that are not those of the layer.
var errRows = errors.New("kernel: a slice of the filters needs Groups == 1 and at most M rows")

// Conv is a convolution with its filters in the order in which Run reads them.
// It is never written after NewConv, but for cut, so it is safe for concurrent use.
type Conv struct {
	g       Conv2D // as computed: a pointwise layer is one row of H·W cells
	rows    int
	tiles   *tiling
	filters []float32 // [Groups] × packFilters, or packColumns if narrow; as given if depthwise
	blocks  []kBlock
	narrow  bool           // the cells are the rows of the product, the filters its columns
	sparse  *sparseFilters // in place of filters, if many are zero
	direct  *depthwise
	zeros   []float32 // a bias in place of none
	cut     atomic.Pointer[cut]
}

// NewConv prepares a convolution with filters w [rows, C/Groups, KH, KW], f32:
// those of the whole layer (rows == g.M) or, with one group, of a slice of it.
// g must be valid. w may be kept and must not be written while the Conv is in
// use. Which kernel runs depends on g only, never on rows.
func NewConv(g Conv2D, w []float32, rows int) *Conv { return newConv(g, w, rows, maxSparseFilters) }

// newConv is NewConv for a greatest share of steps that are not zero with which
// others are left out.
func newConv(g Conv2D, w []float32, rows int, mostKept float64) *Conv {
	if err := g.Validate(); err != nil {
		panic(err)
	}
	if rows != g.M && (g.Groups != 1 || rows < 1 || rows > g.M) {
		panic(errRows)
	}
	k := g.K()
	need("w", len(w), rows*k)
	if g.Groups > 1 && g.Groups == g.C && g.Groups == g.M && copyFits(&g) {
		c := &Conv{g: g, rows: rows, filters: w[:rows*k], direct: new(depthwise), zeros: negativeZeros(rows)}
		c.direct.plan(&g)
		return c
	}
	if g.KH == 1 && g.KW == 1 && g.StrideH == 1 && g.StrideW == 1 && g.PadTop|g.PadLeft|g.PadBottom|g.PadRight == 0 {
		g.H, g.W, g.OH, g.OW = 1, g.H*g.W, 1, g.OH*g.OW
	}
	per := rows / g.Groups
	t := tilesOfLevel()
	c := &Conv{g: g, rows: rows, tiles: t, zeros: negativeZeros(rows)}
	if c.sparse = newSparseFilters(t, w[:rows*k], g.Groups, per, k, mostKept); c.sparse == nil {
		c.narrow = t.narrow(g.OH * g.OW)
		size, pack := t.high(per)*k, t.packFilters // of a group
		if c.narrow {
			size, pack = t.wide(per)*k, t.packColumns
		}
		c.filters = tensor.View[float32](tensor.Alloc(4 * g.Groups * size))
		for i := range g.Groups {
			pack(c.filters[i*size:], w[i*per*k:(i+1)*per*k], per, k)
		}
	}
	step := t.kBlock(k)
	for k0 := 0; k0 < k; k0 += step {
		k1 := min(k0+step, k)
		block := kBlock{from: k0, to: k1, taps: tapsOf(g, k0, k1)}
		if c.packsLater() {
			block.starts = startsOf(g, k0, k1)
		}
		c.blocks = append(c.blocks, block)
	}
	return c
}

// largestLater is the most cells of a map with which a pointwise layer packs while
// it multiplies: of larger ones each cell comes from afar, and is waited for.
const largestLater = 1 << 10

// packsLater says whether panels are packed by gemmPack where they can be.
func (c *Conv) packsLater() bool {
	g, t := &c.g, c.tiles
	cells := g.OH * g.OW
	return packsLater(t) && c.sparse == nil && !c.narrow && g.StrideW == 1 && c.rows/g.Groups >= t.m && cells >= t.n &&
		(g.KH*g.KW > 1 || cells <= largestLater) && g.C/g.Groups <= math.MaxInt32/(g.H*g.W)
}

type convJob struct {
	c       *Conv
	dst, x  []float32
	cut     *cut
	skip    bool // zeros may be left out
	end     ending
	stop    *atomic.Bool
	stopped atomic.Bool
}

var convJobs freeList[convJob]

// Run is dst = conv(x), and what follows: x [N,C,H,W], dst [N,rows,OH,OW], f32.
// Each sum is one chain of fused multiply-adds over channel, filter row and
// filter column, in that order, so a slice of the filters has the bits of the
// same channels of the whole. If stop is not nil and becomes true, Run returns
// false at the end of the blocks being computed, and dst is undefined. dst must
// not alias x. Safe for concurrent use.
func (c *Conv) Run(p *Pool, dst, x []float32, after After, stop *atomic.Bool) bool {
	g := &c.g
	need("dst", len(dst), g.N*c.rows*g.OH*g.OW)
	need("x", len(x), g.N*g.C*g.H*g.W)
	after.need(c.rows, g.N*c.rows*g.OH*g.OW)
	j := convJobs.get()
	if c.direct != nil && depthwiseCost*g.N*g.M*g.OH*g.OW < tilesOfLevel().handOver {
		p = nil
	}
	j.c, j.dst, j.x, j.end, j.stop, j.cut = c, dst, x, after.ending(c.zeros), stop, c.cutFor(p.Threads())
	j.skip = c.sparse != nil && c.sparse.skip.holds(x[:g.N*g.C*g.H*g.W])
	j.stopped.Store(false)
	p.run(j, j.cut.blocks)
	ok := !j.stopped.Load()
	j.c, j.dst, j.x, j.end, j.stop, j.cut = nil, nil, nil, ending{}, nil, nil
	convJobs.put(j)
	return ok
}

// A cut is how the work of a convolution is cut into blocks for some threads: the
// output of each group of each image, or if depthwise of all.
type cut struct {
	threads          int
	m, n             side
	mBlocks, nBlocks int
	blocks           int
}

// cutFor keeps what it returned last: finding it takes longer than many a layer.
func (c *Conv) cutFor(threads int) *cut {
	if last := c.cut.Load(); last != nil && last.threads == threads {
		return last
	}
	g, t, s := &c.g, c.tiles, &cut{threads: threads}
	maps, per, cells := g.N*g.Groups, c.rows/g.Groups, g.OH*g.OW
	least := 1 // blocks of columns
	switch {
	case c.direct != nil:
		maps = 1
		s.m, s.n = side{size: g.N * g.C, unit: 1}, side{size: g.OH, unit: c.direct.blockRows}
		s.mBlocks, s.nBlocks = ceilDiv(s.m.size, c.direct.maps), s.n.units()
	case c.narrow:
		s.m, s.n = side{size: cells, unit: cells}, side{size: per, unit: t.n, extra: turnedColumns}
		least = ceilDiv(per, narrowPanels*t.n)
	default:
		s.m = side{size: per, unit: t.m, extra: packedRows}
		s.n = side{size: cells, unit: t.columnStep, extra: readColumns, once: coldColumns}
		if c.sparse != nil {
			s.m.unit = sparseM
		}
		least = ceilDiv(cells, t.blockN)
	}
	if c.direct == nil {
		s.mBlocks, s.nBlocks = cutOutput(s.m, s.n, least, maps, g.K(), threads, t.handOver)
	}
	s.blocks = maps * s.mBlocks * s.nBlocks
	c.cut.Store(s)
	return s
}

// part says which rows and columns, of which group and image, block i computes.
// Neighbours have the same filters.
func (s *cut) part(g *Conv2D, i int) (m0, m1, n0, n1, group, image int) {
	n0, n1 = s.n.span(i%s.nBlocks, s.nBlocks)
	i /= s.nBlocks
	m0, m1 = s.m.span(i%s.mBlocks, s.mBlocks)
	i /= s.mBlocks
	return m0, m1, n0, n1, i % g.Groups, i / g.Groups
}

// What blocks and threads do that others do as well, as the rows or columns of a
// product that take as long: a block packs its columns, or if narrow all of the
// cells, and reads its filters; a thread gets these from afar the first time.
const (
	packedRows    = 20
	readColumns   = 4
	coldColumns   = 32
	turnedColumns = 24
)

// runBlock computes some columns of some rows of one group of one image.
func (j *convJob) runBlock(i int) {
	if j.c.direct != nil {
		j.runDirect(i)
		return
	}
	if j.c.narrow {
		j.runNarrow(i)
		return
	}
	c, g, t := j.c, &j.c.g, j.c.tiles
	m0, m1, n0, n1, group, image := j.cut.part(g, i)

	per, cells, depth, k := c.rows/g.Groups, g.OH*g.OW, g.C/g.Groups, g.K()
	m, n := m1-m0, n1-n0
	high, step := t.high(per), t.kBlock(k)
	x := j.x[(image*g.C+group*depth)*g.H*g.W:][:depth*g.H*g.W]
	at := (image*c.rows+group*per+m0)*cells + n0
	dst, end := j.dst[at:], j.end.from(group*per+m0, at)
	var last ending // follows in the last K block only
	var from panel

	scratch := buffers.get()
	defer buffers.put(scratch)
	// As many panels are packed at a time as the blocks of filters are read again for.
	each := t.n
	if m > nearRows*t.blockM || c.sparse != nil {
		each = n
	}
	b := scratch.sized(t.wide(each) * step)
	for kb := range c.blocks {
		block := &c.blocks[kb]
		k0, kc := block.from, block.to-block.from
		if kb == len(c.blocks)-1 {
			last = end
		}
		for col := 0; col < n; col += each {
			cols := min(each, n-col)
			later := block.starts != nil && each == t.n && cols == t.n && m >= t.m && from.plan(g, block, n0+col)
			for at := 0; at < cols && !later; at += t.n {
				packPanel(b[at*kc:(at+t.n)*kc], x, g, block, t.n, n0+col+at, min(t.n, cols-at))
			}
			for row := 0; row < m; row += t.blockM {
				if j.stop != nil && j.stop.Load() {
					j.stopped.Store(true)
					return
				}
				to, rows, then := dst[row*cells+col:], min(t.blockM, m-row), last.from(row, row*cells+col)
				if c.sparse != nil {
					c.sparse.multiply(to, cells, group, kb, m0+row, b, rows, cols, kc, j.skip, then)
					continue
				}
				a := c.filters[high*(group*k+k0)+(m0+row)*kc:]
				ahead := a[t.high(rows)*kc:]
				ahead = ahead[:min(len(ahead), rows*kc)]
				share := len(ahead) / ceilDiv(n, each)
				ahead = ahead[col/each*share:][:share]
				if later && row == 0 {
					gemmPack(t, to, cells, a, b, x, block.starts, &from, kb == 0, then)
					if rows -= t.m; rows == 0 {
						continue
					}
					to, a, then = to[t.m*cells:], a[t.m*kc:], then.from(t.m, t.m*cells)
				}
				t.multiply(to, cells, a, b, rows, cols, kc, kb == 0, then, ahead)
			}
		}
	}
}

// nearRows is how many blocks of filters stay in the second cache, so that each
// panel of columns may meet all of them while it is in the first.
const nearRows = 2

// narrow says whether cells fill tiles better as rows than as columns. What has
// to be turned round for it counts as a twelfth; where tiles have all their rows
// or none it does not pay.
func (t *tiling) narrow(cells int) bool {
	rows, columns := ceilDiv(cells, t.rowStep)*t.rowStep, ceilDiv(cells, t.columnStep)*t.columnStep
	return t.rowStep < t.m && 13*rows <= 12*columns
}

// narrowPanels is the most panels of filters in a block of a narrow layer. The
// cells are packed for each block again.
const narrowPanels = 16

// runNarrow computes all columns of some rows of one group of one image, turned
// round: the cells are the rows of the product.
func (j *convJob) runNarrow(i int) {
	c, g, t := j.c, &j.c.g, j.c.tiles
	_, _, m0, m1, group, image := j.cut.part(g, i)

	per, cells, depth, k := c.rows/g.Groups, g.OH*g.OW, g.C/g.Groups, g.K()
	m := m1 - m0
	wide, step := t.wide(per), t.kBlock(k)
	filters := c.filters[group*wide*k:]
	x := j.x[(image*g.C+group*depth)*g.H*g.W:][:depth*g.H*g.W]
	at := (image*c.rows + group*per + m0) * cells

	scratch := buffers.get()
	defer buffers.put(scratch)
	// Rows of a length that is no power of two do not push each other out of cache.
	length := t.wide(m) + 16
	tall := ceilDiv(cells, t.rowStep) * t.rowStep
	a := scratch.sized(t.high(cells)*step + tall*length)
	a, turned := a[:t.high(cells)*step], a[t.high(cells)*step:]
	for kb := range c.blocks {
		if j.stop != nil && j.stop.Load() {
			j.stopped.Store(true)
			return
		}
		block := &c.blocks[kb]
		k0, kc := block.from, block.to-block.from
		for cell := 0; cell < cells; cell += t.m {
			packPanel(a[cell*kc:(cell+t.m)*kc], x, g, block, t.m, cell, min(t.m, cells-cell))
		}
		b := filters[wide*k0+m0*kc:]
		ahead := b[t.n*kc:]
		t.multiply(turned, length, a, b, tall, m, kc, kb == 0, ending{}, ahead[:min(len(ahead), t.wide(m)*kc)])
	}
	end := j.end.orNone(c.zeros).from(group*per+m0, at)
	transposed(j.dst[at:], cells, turned, length, m, cells, end)
}
