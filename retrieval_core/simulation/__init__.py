"""Simulated printed fabrics: motifs, their colours, repeats and grounds, and photographs of the cloth.

Imports files and config. Begin with ``dataset.simulate``, which draws a data set in the published layout;
``motifs.FAMILIES`` lists what can be printed, ``cloth.print_cell`` prints it.
"""
