package kernel

// depthwise prepares a convolution in which every channel has a filter of its
// own.
func (c *QuantConv) depthwise() {
	g := &c.g
	if patchable() {
		c.patches = patchworkOf(g)
	}
	if c.patches != nil {
		c.filters = make([]uint32, g.C*c.patches.groups)
	}
	area := g.KH * g.KW
	pairs := ceilDiv(area, 2)
	c.taps = make([]int32, g.C*pairs)
	c.offs = make([]int32, 2*pairs)
	for t := range area {
		c.offs[t] = int32(c.window.off(g, t/g.KW, t%g.KW))
	}
}

// setTaps takes zero points out of the weights, which become int16, unless they are
// signed bytes without and a patchwork takes them.
func (c *QuantConv) setTaps(w *Weights) {
	g := &c.g
	area := g.KH * g.KW
	if c.patches != nil {
		flip, shift := byte(0), int32(0)
		if !w.Signed {
			flip, shift = 0x80, -128
		}
		c.terms.set(0, w, g.C, area, shift)
		if c.terms.zeroed {
			c.patches.pack(c.filters, w.Data[:g.C*area], flip, g)
			return
		}
	}
	pairs := ceilDiv(area, 2)
	clear(c.terms.sums)
	clear(c.taps)
	for m := range g.C {
		zero := int32(0)
		if len(w.Zeros) > 0 {
			zero = w.Zeros[min(m, len(w.Zeros)-1)]
		}
		for t := range area {
			v := intOf(w.Data[m*area+t], w.Signed) - zero
			c.terms.sums[m] += v
			c.taps[m*pairs+t/2] |= int32(uint32(uint16(v)) << (t % 2 * 16))
		}
	}
}

// depthwiseBlock computes some rows of some maps of a depthwise convolution.
func (j *quantConvJob) depthwiseBlock(i int) {
	c, g, w := j.c, &j.c.g, &j.c.window
	oy, m0 := i%j.nBlocks*j.nStep, i/j.nBlocks*j.mStep
	rows := min(j.nStep, g.OH-oy)
	scratch := scratches8.get()
	defer scratches8.put(scratch)
	if j.patched {
		j.patchedMaps(m0, scratch)
		return
	}
	flat := g.StrideH == 1 && w.line <= 16
	sums := grown(&scratch.c, rows*w.line+maxSchemeN)
	pairs := len(c.offs) / 2
	for m := m0; m < min(m0+j.mStep, g.N*g.C); m++ {
		ch := m % g.C
		src := j.src[m*w.plane+oy*g.StrideH*w.line:]
		taps := c.taps[ch*pairs : (ch+1)*pairs]
		if flat {
			// A narrow map fills registers only across its rows. What is computed
			// between them is dropped.
			depthwiseSums(sums, src, j.x.Signed, taps, c.offs, 1, (rows-1)*w.line+g.OW, 0)
			for r := 1; r < rows; r++ {
				copy(sums[r*g.OW:(r+1)*g.OW], sums[r*w.line:])
			}
		} else {
			depthwiseSums(sums, src, j.x.Signed, taps, c.offs, rows, g.OW, g.StrideH*w.line)
		}
		out := j.out.cutRows(ch, 1, (m*g.OH+oy)*g.OW)
		out.finishRows(0, sums, 0, 1, rows*g.OW)
	}
}

// patchedMaps computes maps from m0 on by patches.
func (j *quantConvJob) patchedMaps(m0 int, scratch *scratch8) {
	c, g := j.c, &j.c.g
	sums := grown(&scratch.c, g.OH*g.OW)
	for m := m0; m < min(m0+j.mStep, g.N*g.C); m++ {
		ch := m % g.C
		filters := c.filters[ch*c.patches.groups:][:c.patches.groups]
		patchSums(c.patches, sums, j.src[m*g.H*g.W:(m+1)*g.H*g.W], filters, j.flip, byte(j.x.Zero)^j.flip)
		out := j.out.cutRows(ch, 1, m*g.OH*g.OW)
		out.finishRows(0, sums, 0, 1, g.OH*g.OW)
	}
}
