"""What must survive: the log with its hard state, and the data directory (dissertation 3.8).

Law: nothing is believed that a checksum does not cover, and nothing is vouched for that a finished
sync does not cover. Every access goes through the `Disk` seam, so that a simulated disk can stand
behind the same code. A torn tail is cut; anything else that is wrong is refused, never repaired.
"""
