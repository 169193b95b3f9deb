//go:build check

package engine_test

// storySteps is how many tokens TestGreedyStory writes: all that the model sees.
const storySteps = 255
