package audit

import "os"

func writeOnce(f *os.File, data []byte) (int, error) { return f.Write(data) }

// isRemoved returns false: Windows does not remove a file that is open.
func isRemoved(*os.File) bool { return false }
