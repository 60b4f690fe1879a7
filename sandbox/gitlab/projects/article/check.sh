#!/usr/bin/env bash
# Stands for a build tool's `check` task: one test that needs the database, a page and a JUnit report about it.
set -u

address="${DATABASE_URL#*://}"
address="${address%%/*}"
host="${address%%:*}"
port="${address##*:}"

reached=no
for _ in $(seq 20); do
  if (exec 3<>"/dev/tcp/${host}/${port}") 2>/dev/null; then
    reached=yes
    break
  fi
  sleep 0.5
done

mkdir -p build/reports/tests build/test-results/test
failures=0
verdict=""
if [ "$reached" = no ]; then
  failures=1
  verdict="<failure message=\"no database at ${host}:${port}\"/>"
fi
cat > build/test-results/test/TEST-DatabaseTest.xml <<XML
<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="DatabaseTest" tests="1" failures="${failures}">
  <testcase classname="DatabaseTest" name="reaches the database">${verdict}</testcase>
</testsuite>
XML
echo "<h1>DatabaseTest</h1><p>1 test, ${failures} failed</p>" > build/reports/tests/index.html
echo "DatabaseTest: 1 test, ${failures} failed (database at ${host}:${port})"
exit "$failures"
