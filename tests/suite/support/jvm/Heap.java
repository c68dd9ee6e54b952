import java.io.FileOutputStream;
import java.util.ArrayList;

/** Fills its heap with so many MiB, lets go of them, says so in a file, and stays. */
public class Heap {
    public static void main(String[] args) throws Exception {
        ArrayList<byte[]> held = new ArrayList<byte[]>();
        for (int mib = Integer.parseInt(args[0]); mib > 0; mib--) {
            byte[] block = new byte[1 << 20];
            java.util.Arrays.fill(block, (byte) mib);
            held.add(block);
        }
        held = null;
        new FileOutputStream(args[1]).close();
        Thread.sleep(600000);
    }
}
