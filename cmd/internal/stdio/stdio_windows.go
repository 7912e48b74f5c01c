package stdio

// EnoughFiles does nothing on Windows, which has no such limit.
func EnoughFiles() error { return nil }

// RefuseClosed does nothing on Windows, where Go opens nothing in the place of closed files.
func RefuseClosed() error { return nil }

// Own does nothing on Windows.
func Own() error { return nil }

// EndOnBrokenPipe does nothing on Windows, where a write into a pipe without a reader is an error.
func EndOnBrokenPipe() {}

// Mute does nothing on Windows.
func Mute() (restore func() error, err error) { return func() error { return nil }, nil }
