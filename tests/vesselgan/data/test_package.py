"""The public names of vesselgan.data."""

import subprocess
import sys

import vesselgan.data


def test_every_public_name_exists_once():
    assert len(set(vesselgan.data.__all__)) == len(vesselgan.data.__all__)
    assert all(hasattr(vesselgan.data, name) for name in vesselgan.data.__all__)


def test_data_need_no_torch():
    code = "import sys, vesselgan.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
