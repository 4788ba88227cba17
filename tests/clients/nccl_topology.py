"""What NCCL reads of a machine's devices where it is given a file (`NCCL_TOPO_FILE`)."""

CPU = '<cpu numaid="0" affinity="ffffffff" arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="85">{devices}</cpu>'
DEVICE = """<pci busid="{place}" class="0x030200" link_speed="16.0 GT/s PCIe" link_width="16">
<gpu dev="{number}" sm="{capability}" gdr="1">{links}</gpu></pci>"""
LINK = '<nvlink target="{place}" count="4" tclass="0x030200"/>'


def topology(properties, capability):
    """Every device linked with every other, on one processor; `properties` has each one's place on the bus."""
    places = [f"{at.pci_domain_id:04x}:{at.pci_bus_id:02x}:{at.pci_device_id:02x}.0" for at in properties]
    devices = [
        DEVICE.format(
            place=place,
            number=number,
            capability="".join(map(str, capability)),
            links="".join(LINK.format(place=other) for other in places if other != place),
        )
        for number, place in enumerate(places)
    ]
    return f'<system version="1">{CPU.format(devices="".join(devices))}</system>'
