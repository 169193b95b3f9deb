package input

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // decoded by its content
	_ "image/png"  // decoded by its content
	"io"
	"math"

	"golang.org/x/image/draw"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// maxPixels limits a picture before it is decoded: decoding takes up to 12
// bytes a pixel (progressive JPEG), so 400 MB.
const maxPixels = 1 << 25

// ImageNet's mean and standard deviation, in 0–255 units.
var (
	imageNetMean = []float32{123.675, 116.28, 103.53}
	imageNetStd  = []float32{58.395, 57.12, 57.375}
)

// openPicture decodes a PNG or JPEG file for an input [1,3,H,W] (red, green,
// blue) or [1,1,H,W] (luma, ITU-R BT.601) of type float32. Transparent pixels
// are laid over black; an EXIF orientation is not applied.
func openPicture(r *io.SectionReader, want graph.Value, opt Options) (*Source, error) {
	s := want.Shape
	if want.Type != tensor.Float32 || len(s) != 4 || s[0] != 1 || (s[1] != 1 && s[1] != 3) {
		return nil, fmt.Errorf("is a picture, but input %q takes %v %v, not float32 [1,3,H,W] or [1,1,H,W]; give an .npy file",
			want.Name, want.Type, s)
	}
	mean, std, err := opt.normal(s[1])
	if err != nil {
		return nil, err
	}
	config, _, err := image.DecodeConfig(r)
	if err != nil {
		return nil, pictureError(err)
	}
	// A side of 0 has passed neither decoder, but the product below needs it.
	if config.Width <= 0 || config.Height <= 0 || config.Width > maxPixels/config.Height {
		return nil, fmt.Errorf("has %d×%d pixels, limit %d in all; give a smaller picture", config.Width, config.Height, maxPixels)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	img, _, err := image.Decode(r)
	if err != nil {
		return nil, pictureError(err)
	}
	t := tensor.New(tensor.Float32, s...)
	normalise(t.F32(), resize(img, s[3], s[2], opt.Resize), s[1], mean, std)
	return array(t.Type, t.Shape, bytes.NewReader(t.Data), 0, want)
}

func pictureError(err error) error {
	if errors.Is(err, image.ErrFormat) {
		return errors.New("is neither PNG nor JPEG; convert it")
	}
	return fmt.Errorf("cannot be decoded: %w; save it again", err)
}

// resize scales by a triangle filter that widens as the picture shrinks, as
// Pillow's and torchvision's default does, which most models were measured
// with. A picture of the right size is unchanged.
func resize(img image.Image, width, height int, how Resize) *image.RGBA {
	part := img.Bounds()
	if how != Stretch && part.Size() != image.Pt(width, height) {
		part = centre(part, width, height)
	}
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.BiLinear.Scale(out, out.Bounds(), img, part, draw.Src, nil)
	return out
}

// centre is seven eighths of the largest centred part of r with the ratio
// width:height, to the nearest pixel.
func centre(r image.Rectangle, width, height int) image.Rectangle {
	w, h := r.Dx(), r.Dy()
	if int64(w)*int64(height) > int64(h)*int64(width) {
		w = roundedRatio(h, width, height)
	} else {
		h = roundedRatio(w, height, width)
	}
	w, h = max(1, roundedRatio(w, 7, 8)), max(1, roundedRatio(h, 7, 8))
	from := image.Pt(r.Min.X+(r.Dx()-w)/2, r.Min.Y+(r.Dy()-h)/2)
	return image.Rectangle{Min: from, Max: from.Add(image.Pt(w, h))}
}

// roundedRatio is a·b/c to the nearest integer.
func roundedRatio(a, b, c int) int {
	return int((2*int64(a)*int64(b) + int64(c)) / (2 * int64(c)))
}

// normalise writes img as planes [channels,H,W] of (x − mean)/std.
func normalise(out []float32, img *image.RGBA, channels int, mean, std []float32) {
	plane := len(out) / channels
	for i := range plane {
		p := img.Pix[4*i : 4*i+3 : 4*i+3]
		if channels == 1 {
			// The weights of image/color's GrayModel, in 1/65536.
			luma := (19595*uint32(p[0]) + 38470*uint32(p[1]) + 7471*uint32(p[2]) + 1<<15) >> 16
			out[i] = (float32(luma) - mean[0]) / std[0]
			continue
		}
		for c, x := range p {
			out[c*plane+i] = (float32(x) - mean[c]) / std[c]
		}
	}
}

// check finds what is wrong with the options whatever the model.
func (o Options) check() error {
	if o.Resize != "" && o.Resize != Crop && o.Resize != Stretch {
		return fmt.Errorf("unknown way to resize %q; choose %s or %s", o.Resize, Crop, Stretch)
	}
	for _, x := range o.Mean {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return fmt.Errorf("mean %v is not a finite number", x)
		}
	}
	for _, x := range o.Std {
		if !(x > 0) || math.IsInf(float64(x), 0) {
			return fmt.Errorf("standard deviation %v is not a positive number; it is in 0–255 units, as 255 for x/255", x)
		}
	}
	return nil
}

// normal returns mean and standard deviation for each channel.
func (o Options) normal(channels int) (mean, std []float32, err error) {
	mean, std = []float32{0}, []float32{255}
	if channels == 3 {
		mean, std = imageNetMean, imageNetStd
	}
	if mean, err = perChannel("mean", o.Mean, mean, channels); err != nil {
		return nil, nil, err
	}
	std, err = perChannel("std", o.Std, std, channels)
	return mean, std, err
}

func perChannel(what string, given, byDefault []float32, channels int) ([]float32, error) {
	switch len(given) {
	case 0:
		return byDefault, nil
	case channels:
		return given, nil
	case 1:
		all := make([]float32, channels)
		for i := range all {
			all[i] = given[0]
		}
		return all, nil
	}
	return nil, fmt.Errorf("has %d channels, but --%s has %d values; give one for all or one a channel", channels, what, len(given))
}
