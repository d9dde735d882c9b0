"""From a theorem's last line to source: lowering, schedule, validation, printers."""
