package audit

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// programOf returns the path of the program of a process, or "".
func programOf(pid int) string {
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return path
}

// loginUID returns the user who has logged in, as the kernel keeps it for auditing, or -1.
func loginUID(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", pid))
	if err != nil {
		return -1
	}
	uid, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 32)
	if err != nil { // 4294967295 stands for none
		return -1
	}
	return int(uid)
}
