//go:build !check

package engine_test

// storySteps is how many tokens TestGreedyStory writes; the longer checks write all.
const storySteps = 24
